"""The SavedModel of an image classifier, with the signatures of the model contract.

With `tf.saved_model.save`, since `keras.Model.export` writes one signature and
`keras.export.ExportArchive` writes the variables twice.
"""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

import tensorflow as tf
from PIL import Image

from servable_client._wire import wire_pb2 as wire
from servable_client._wire.tensors import to_proto
from servable_serving.core.names import (
    BYTES_SIGNATURE,
    CLASSIFY_METHOD,
    CLASSIFY_SIGNATURE,
    DEFAULT_SIGNATURE,
    IMAGE_FEATURE,
    WARMUP,
)
from servable_serving.exporter.canonical import canonicalize
from servable_serving.exporter.classifier import Classifier
from servable_serving.exporter.errors import ExportError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from servable_serving.exporter.image_network import ImageClassifier

WARMUP_BATCHES = (1, 8, 32)

_GOLDEN = 4
# How much a graph's probabilities may differ from the model's: kernels are fused.
_SAME = 1e-3
_TAG = "serve"


def write_classifier(
    folder: Path,
    classifier: ImageClassifier,
    *,
    name: str,
    labels: Sequence[str],
    examples: NDArray[np.uint8],
    invert: bool,
) -> list[dict[str, Any]]:
    """Write a SavedModel with the contract's signatures, and its warm-up records.

    Args:
        folder: An empty folder.
        classifier: The classifier.
        name: The name that it will be served under, for the records.
        labels: The names of its classes.
        examples: Images as it takes them, as many as the largest batch of the records.
        invert: Whether grey image files with a light border are inverted.

    Returns:
        The golden requests, for the manifest.

    Raises:
        ExportError: The graph answers differently than the classifier.
    """
    model = Classifier(
        classifier.probabilities, labels=labels, shape=classifier.shape, invert=invert
    )
    signatures = model.signatures()
    few = tf.constant(examples[:_GOLDEN])
    given = signatures[DEFAULT_SIGNATURE](image=few)["probabilities"]
    apart = float(tf.reduce_max(tf.abs(given - classifier.probabilities(few))))
    if not apart <= _SAME:
        raise ExportError(
            "the graph that is made of the model answers differently than the model: "
            f"probabilities are {apart:.2g} apart",
            hint="give an input of a fixed size, or the directory that model.export(DIR) writes",
        )
    tf.saved_model.save(tf.Module(), str(folder), signatures=signatures)
    mark_classify(folder)
    canonicalize(folder)
    (folder / WARMUP.parent).mkdir()
    with tf.io.TFRecordWriter(str(folder / WARMUP)) as writer:
        for record in _warmup_records(name, examples):
            writer.write(record.SerializeToString(deterministic=True))
    return _golden_requests(signatures[BYTES_SIGNATURE], examples[:_GOLDEN])


def mark_classify(folder: Path) -> None:
    """Let the Classify API find its signature; TensorFlow 2 writes `predict` into each."""
    from tensorflow.python.saved_model.method_name_updater import MethodNameUpdater

    updater = MethodNameUpdater(str(folder))
    updater.replace_method_name(
        signature_key=CLASSIFY_SIGNATURE, method_name=CLASSIFY_METHOD, tags=_TAG
    )
    updater.save()


def encode_png(image: NDArray[np.uint8]) -> bytes:
    """An image, uint8 [height, width] or [height, width, 3], as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def _warmup_records(name: str, examples: NDArray[np.uint8]) -> Iterator[wire.PredictionLog]:
    for batch in WARMUP_BATCHES:
        images = examples[:batch]
        encoded = [encode_png(image) for image in images]

        plain = wire.PredictionLog()
        plain.predict_log.request.model_spec.name = name
        plain.predict_log.request.model_spec.signature_name = DEFAULT_SIGNATURE
        plain.predict_log.request.inputs["image"].CopyFrom(to_proto(images))
        yield plain

        files = wire.PredictionLog()
        files.predict_log.request.model_spec.name = name
        files.predict_log.request.model_spec.signature_name = BYTES_SIGNATURE
        files.predict_log.request.inputs["image_bytes"].CopyFrom(to_proto(encoded))
        yield files

        classify = wire.PredictionLog()
        request = classify.classify_log.request
        request.model_spec.name = name
        request.model_spec.signature_name = CLASSIFY_SIGNATURE
        for data in encoded:
            example = request.input.example_list.examples.add()
            example.features.feature[IMAGE_FEATURE].bytes_list.value.append(data)
        yield classify


def _golden_requests(
    signature: tf.types.experimental.ConcreteFunction, images: NDArray[np.uint8]
) -> list[dict[str, Any]]:
    files = [encode_png(image) for image in images]
    answers = {k: v.numpy() for k, v in signature(image_bytes=tf.constant(files)).items()}
    return [
        {
            "png": base64.b64encode(file).decode(),
            "probabilities": [round(float(p), 6) for p in answers["probabilities"][index]],
            "class_id": int(answers["class_id"][index]),
            "label": answers["label"][index].decode(),
        }
        for index, file in enumerate(files)
    ]
