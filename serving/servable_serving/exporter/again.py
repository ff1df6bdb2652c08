"""Export of a version that an earlier `servable export` wrote, with the graph that it writes now.

A version's graph holds what was known of hostile images when it was exported. Its weights are in
that graph too: an older version gets the newer checks without the Keras model that it came from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from servable_client._wire import wire_pb2 as wire
from servable_client._wire.tensors import from_proto
from servable_serving.core.names import DEFAULT_SIGNATURE, WARMUP
from servable_serving.exporter.errors import ExportError
from servable_serving.exporter.image_network import ImageClassifier
from servable_serving.exporter.saved_model_source import meta_graph_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
# What a new export writes anew.
_NEW = frozenset(
    ("name", "kind", "created", "git_revision", "signatures", "golden", "versions", "sha256")
)


def classifier_again(folder: Path, manifest: Mapping[str, Any]) -> ImageClassifier:
    """The classifier of a version that was exported as an image classifier.

    Raises:
        ExportError: Its graph is of another form.
    """
    image = manifest["signatures"][DEFAULT_SIGNATURE]["inputs"]["image"]
    shape = tuple(map(int, image["shape"][1:]))
    return ImageClassifier(
        probabilities=_network(folder, shape),
        shape=shape,
        classes=len(manifest["labels"]),
        input_range=str(manifest.get("input_range", "0..255")),
        accuracies={},
    )


def facts_again(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What the manifest of the new candidate takes over from the version's."""
    return {key: value for key, value in manifest.items() if key not in _NEW}


def examples_again(folder: Path, shape: tuple[int, ...]) -> NDArray[np.uint8] | None:
    """The images of its warm-up records, uint8 [N, *shape]; None if it has none."""
    found = None
    path = folder / WARMUP
    if not path.is_file():
        return None
    try:
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            inputs = wire.PredictionLog.FromString(record).predict_log.request.inputs
            if "image" in inputs:
                images = from_proto(inputs["image"])
                if found is None or len(images) > len(found):
                    found = images
    except (tf.errors.OpError, ValueError) as error:
        raise ExportError(f"the warm-up records of {folder} cannot be read") from error
    fits = found is not None and found.dtype == np.uint8 and found.shape[1:] == shape
    return found if fits else None


def _network(folder: Path, shape: tuple[int, ...]) -> Callable[[tf.Tensor], tf.Tensor]:
    """The innermost function that computes probabilities from images, of constants alone."""
    from tensorflow.python.framework.function_def_to_graph import function_def_to_graph

    meta_graph = meta_graph_of(folder)
    graph_def = meta_graph.graph_def
    functions = {one.signature.name: one for one in graph_def.library.function}
    output = meta_graph.signature_def[DEFAULT_SIGNATURE].outputs["probabilities"].name
    node = next((n for n in graph_def.node if n.name == output.partition(":")[0]), None)
    while node is not None and node.op in _CALLS:
        function = functions[node.attr["f"].func.name]
        node = next((n for n in function.node_def if n.op in _CALLS), None)
        if node is None and len(function.signature.input_arg) == 1:
            graph = function_def_to_graph(function, [tf.TensorShape([None, *shape])])
            return _as_function(graph)
    raise ExportError(
        f"{folder} is not a version whose network can be taken from its graph",
        hint="export the model that it was made from",
    )


def _as_function(graph: Any) -> Callable[[tf.Tensor], tf.Tensor]:
    graph_def = graph.as_graph_def()
    (image,), (answer,) = graph.inputs, graph.outputs

    def run(images: tf.Tensor) -> tf.Tensor:
        (found,) = tf.graph_util.import_graph_def(
            graph_def, input_map={image.name: images}, return_elements=[answer.name], name=""
        )
        return found

    function: Callable[[tf.Tensor], tf.Tensor] = tf.function(run, autograph=False)
    return function
