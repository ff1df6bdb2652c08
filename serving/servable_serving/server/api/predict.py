"""The Predict API: a signature, arrays in, arrays out.

The rules and the words are those of TensorFlow Serving's predict_util.cc.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from servable_client import InvalidInput
from servable_client._wire import wire_pb2 as wire
from servable_client._wire.dtypes import VARIANT
from servable_client._wire.tensors import count_elements, from_proto
from servable_serving.core.errors import ModelError, invalid
from servable_serving.core.names import DEFAULT_SIGNATURE

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from numpy.typing import NDArray

    from servable_serving.server.runtime.model import Model


def predict(
    model: Model, request: Any, *, deadline: float | None = None
) -> tuple[str, dict[str, NDArray[Any]]]:
    """Answer a PredictRequest.

    Args:
        model: The model.
        request: A PredictRequest, TensorFlow Serving's or ours.
        deadline: Until when, by time.monotonic.

    Returns:
        The signature's name and the outputs.

    Raises:
        ModelError: The request does not fit the signature, or the graph refused it.
    """
    name = request.model_spec.signature_name or DEFAULT_SIGNATURE
    if name not in model.signatures:
        raise ModelError("FAILED_PRECONDITION", f'Serving signature key "{name}" not found.')
    definition = model.signatures[name]
    outputs = list(request.output_filter)
    check_size(definition, request.inputs)
    tensors = _with_defaults(definition, request.inputs)
    inputs = {alias: _array(alias, tensor) for alias, tensor in tensors.items()}
    _check_names(definition, request.inputs)
    check_filter(definition, outputs)
    for tensor in tensors.values():
        _refuse_resource(tensor)
    return name, model.run(name, inputs, outputs, deadline=deadline)


def check_size(definition: wire.SignatureDef, inputs: Collection[str]) -> None:
    """Check the number of inputs against a signature; those that have defaults may be missing.

    Raises:
        ModelError: There are too many or too few; `code` is INVALID_ARGUMENT.
    """
    given, asked = set(inputs), set(definition.inputs)
    if len(given) > len(asked) or (len(given) < len(asked) and not definition.defaults):
        raise invalid(
            f"input size does not match signature: {len(given)}!={len(asked)} "
            f"len({_names(given)}) != len({_names(asked)}). "
            f"Sent extra: {_names(given - asked)}. "
            f"Missing but required: {_names(asked - given)}."
        )


def check_filter(definition: wire.SignatureDef, output_filter: Sequence[str]) -> None:
    """Check the names of requested outputs against a signature.

    Raises:
        ModelError: One does not exist, or comes twice; `code` is INVALID_ARGUMENT.
    """
    for index, name in enumerate(output_filter):
        if name not in definition.outputs:
            raise invalid(
                f"output tensor alias not found in signature: {name} "
                f"Outputs expected to be in the set {_names(set(definition.outputs))}."
            )
        if name in output_filter[:index]:
            raise invalid(f"duplicate output tensor alias: {name}")


def _with_defaults(definition: wire.SignatureDef, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The tensors of a signature's inputs: those given, or else the signature's defaults."""
    tensors: dict[str, Any] = {}
    for name in sorted(definition.inputs):
        if name in inputs:
            tensors[name] = inputs[name]
        elif name in definition.defaults:
            tensors[name] = definition.defaults[name]
        else:
            raise invalid(
                f"Signature input alias: {name}(feed name: {definition.inputs[name].name}) not "
                "found in request and no default value provided. Inputs expected to be in the "
                f"request {_names(set(inputs))}, or default input alias set: "
                f"{','.join(sorted(definition.defaults))}"
            )
    return tensors


def _check_names(definition: wire.SignatureDef, inputs: Collection[str]) -> None:
    used = sorted(name for name in inputs if name in definition.inputs)
    if len(used) != len(inputs):
        raise invalid(
            f"Inputs contains invalid name. Used request inputs: {','.join(used)}, request input: "
            f"{','.join(sorted(inputs))}"
        )


def _array(name: str, tensor: Any) -> NDArray[Any]:
    try:
        if tensor.dtype in (wire.DT_RESOURCE, wire.DT_VARIANT):
            return np.empty(_shape(tensor), VARIANT)
        return from_proto(tensor)
    except (InvalidInput, ValueError, OverflowError):
        raise invalid(f"tensor parsing error: {name}") from None


def _shape(tensor: Any) -> list[int]:
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    # Only its dtype matters, since no graph can be fed with it.
    return [0] if count_elements(shape) else shape


def _refuse_resource(tensor: Any) -> None:
    """Refuse a resource handle, which would be that of another process."""
    if tensor.dtype != wire.DT_RESOURCE:
        return
    handle = next(iter(tensor.resource_handle_val), wire.ResourceHandleProto())
    raise invalid(
        f"Invalid resource type hash code: {handle.hash_code}(name: {handle.name} type: "
        f"{handle.maybe_type_name}). Perhaps a resource tensor was being provided as a feed? That "
        "is not currently allowed. Please file an issue at "
        "https://github.com/tensorflow/tensorflow/issues/new, ideally with a short code snippet "
        "that leads to this error message."
    )


def _names(names: set[str]) -> str:
    return "{" + ",".join(sorted(names)) + "}"
