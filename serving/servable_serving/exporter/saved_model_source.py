"""Reading of SavedModels that others wrote: Keras, TensorFlow 2 and TensorFlow 1."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tensorflow as tf

from servable_client._wire.status import INIT_SIGNATURE
from servable_serving.core.errors import ModelError
from servable_serving.core.names import DEFAULT_SIGNATURE
from servable_serving.exporter.errors import ExportError
from servable_serving.exporter.image_network import ImageNetwork, is_image
from servable_serving.model.saved_model import read_meta_graph, signatures_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# Keras' `model.export` writes one function under both names.
_OF_ONE_FUNCTION = {DEFAULT_SIGNATURE, "serve", INIT_SIGNATURE}


def meta_graph_of(folder: Path) -> Any:
    """The MetaGraphDef in a SavedModel that is served.

    Raises:
        ExportError: There is none, or it is damaged.
    """
    try:
        return read_meta_graph(folder)
    except ModelError as error:
        raise ExportError(
            f"{folder} is not a SavedModel that can be served: {error.message}",
            hint="model.export(DIR) and tf.saved_model.save write one",
        ) from error


def saved_model_network(folder: Path, *, grey_without_channel: bool) -> ImageNetwork | None:
    """A SavedModel as a network for images; None if it is not an image classifier.

    One that has more than one signature, or more than one input or output, is not.

    Args:
        folder: The SavedModel.
        grey_without_channel: Whether an input [N, n, m] is grey images; it may be series of
            numbers as well, and without Keras' layers the two cannot be distinguished.
    """
    signatures = signatures_of(meta_graph_of(folder))
    if DEFAULT_SIGNATURE not in signatures or set(signatures) - _OF_ONE_FUNCTION:
        return None
    signature = signatures[DEFAULT_SIGNATURE]
    if len(signature.inputs) != 1 or len(signature.outputs) != 1:
        return None
    (taken,), (given,) = signature.inputs.values(), signature.outputs.values()
    if taken.tensor_shape.unknown_rank or given.tensor_shape.unknown_rank:
        return None
    shape, answer = (
        tuple(None if dim.size < 0 else int(dim.size) for dim in info.tensor_shape.dim)
        for info in (taken, given)
    )
    dtype = tf.as_dtype(taken.dtype)
    fits = len(answer) == 2 and answer[1] is not None and tf.as_dtype(given.dtype).is_floating
    if not (fits and shape[:1] == (None,) and is_image(shape, dtype)):
        return None
    if len(shape) == 3 and not grey_without_channel:
        return None
    call = _frozen(folder)
    if call is None or answer[1] is None:
        return None
    return ImageNetwork(
        call=call, shape=shape[1:], dtype=dtype, units=answer[1], activation=None, scaling=None
    )


def _frozen(folder: Path) -> Callable[[tf.Tensor], tf.Tensor] | None:
    """The default signature as a function of constants; None if it has other state."""
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    try:
        loaded = tf.saved_model.load(str(folder))
        frozen = convert_variables_to_constants_v2(loaded.signatures[DEFAULT_SIGNATURE])
    except Exception:  # noqa: BLE001  # tables, or control flow that cannot be frozen: kept as it is
        return None
    if frozen.captured_inputs:
        return None

    def run(values: tf.Tensor) -> tf.Tensor:
        answer = frozen(values)
        while isinstance(answer, list | tuple | dict):
            answer = next(iter(answer.values() if isinstance(answer, dict) else answer))
        return answer

    return run
