"""Export: a Keras classifier becomes a candidate for the model repository.

With `tf.saved_model.save`, since `keras.Model.export` writes one signature and
`keras.export.ExportArchive` writes the variables twice. The graph is made for inference: batch
normalization is folded, weights are constants, and there is nothing left to train or to restore.
"""

from __future__ import annotations

import base64
import io
import json
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from PIL import Image

from servable_client import ServableError
from servable_client._wire import wire_pb2 as wire
from servable_client._wire.tensors import to_proto
from servable_serving.core.files import new_folder
from servable_serving.core.names import (
    BYTES_SIGNATURE,
    CLASSIFY_METHOD,
    DEFAULT_SIGNATURE,
    IMAGE_FEATURE,
    WARMUP,
)
from servable_serving.export.canonical import canonicalize
from servable_serving.export.classifier import Classifier
from servable_serving.export.fold_batch_norm import folded
from servable_serving.model.contract import contract_of
from servable_serving.repository.manifest import MANIFEST, check_name, checksums

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    import keras
    from numpy.typing import NDArray

WARMUP_BATCHES = (1, 8, 32)

_GOLDEN = 4
# Keras' name for the state of a layer that draws random numbers, such as Dropout.
_SEED = "seed_generator_state"
_TAG = "serve"


class ExportError(ServableError):
    """A network cannot be exported by the model contract."""


def export(
    model: keras.Model,
    target: Path,
    *,
    name: str,
    labels: Sequence[str],
    examples: NDArray[np.uint8],
    about: Mapping[str, Any],
) -> dict[str, Any]:
    """Write a candidate: a SavedModel with the contract's signatures, warm-up and manifest.

    Args:
        model: uint8 [N, height, width], or [N, height, width, 3] for colour, to probabilities
            float32 [N, C].
        target: A new folder, outside the model repository.
        name: The name that it will be served under.
        labels: The name of each of the C classes.
        examples: Images as the network takes them, for warm-up records and golden requests: 32
            or, if there are fewer, these repeated; not from the test set.
        about: What else the manifest should hold: seed, hyperparameters, metrics.

    Returns:
        The manifest.

    Raises:
        CandidateError: `name` cannot be a model's name.
        ExportError: The network or the examples are not of that form.
        FolderError: `target` exists or cannot be written.
    """
    check_name(name)
    shape = _checked_shape(model, labels)
    if examples.shape[1:] != shape or not len(examples):
        raise ExportError(
            f"export takes examples of shape {list(shape)}, as the network does, and was given an "
            f"array of shape {list(examples.shape)}"
        )
    examples = examples[np.arange(max(WARMUP_BATCHES)) % len(examples)]
    classifier = Classifier(_constant(folded(model)), labels=labels, shape=shape)
    with new_folder(target) as incoming:
        signatures = classifier.signatures()
        tf.saved_model.save(tf.Module(), str(incoming), signatures=signatures)
        mark_classify(incoming)
        canonicalize(incoming)
        (incoming / WARMUP.parent).mkdir()
        with tf.io.TFRecordWriter(str(incoming / WARMUP)) as writer:
            for record in _warmup_records(name, examples):
                writer.write(record.SerializeToString(deterministic=True))
        manifest = {
            "name": name,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "git_revision": _git_revision(),
            "labels": list(labels),
            "signatures": contract_of(incoming),
            **about,
            "golden": _golden_requests(signatures[BYTES_SIGNATURE], examples[:_GOLDEN]),
            "versions": {
                "python": platform.python_version(),
                "tensorflow": tf.__version__,  # its distribution has several names
                **{p: version(p) for p in ("servable", "keras", "numpy")},
            },
            "sha256": checksums(incoming),
        }
        (incoming / MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")
    return manifest


def _checked_shape(model: keras.Model, labels: Sequence[str]) -> tuple[int, ...]:
    shape, outputs = tuple(model.input_shape), tuple(model.output_shape)
    if not (len(shape) == 3 or (len(shape) == 4 and shape[3] == 3)) or None in shape[1:]:
        raise ExportError(
            f"the network takes {list(shape)}, and the contract asks for [N, height, width] in "
            "grey, or [N, height, width, 3] in colour",
            hint="for grey begin it with a Reshape to [height, width, 1]",
        )
    if outputs != (None, len(labels)):
        raise ExportError(
            f"the network answers {list(outputs)}, and there are {len(labels)} labels"
        )
    return shape[1:]


def _constant(model: keras.Model) -> Callable[[tf.Tensor], tf.Tensor]:
    """A network for inference whose weights are constants in the graph that calls it."""
    # Unused at inference, and seeds differ each time a network is loaded.
    weights = [
        [
            np.zeros(variable.shape, variable.dtype) if variable.name == _SEED else variable.numpy()
            for variable in variables
        ]
        for variables in (model.trainable_variables, model.non_trainable_variables)
    ]

    def run(image: tf.Tensor) -> tf.Tensor:
        constants = [[tf.constant(value) for value in values] for values in weights]
        return model.stateless_call(*constants, image, training=False)[0]

    return run


def mark_classify(folder: Path) -> None:
    """Let the Classify API find its signature; TensorFlow 2 writes `predict` into each."""
    from tensorflow.python.saved_model.method_name_updater import MethodNameUpdater

    updater = MethodNameUpdater(str(folder))
    updater.replace_method_name(signature_key="classify", method_name=CLASSIFY_METHOD, tags=_TAG)
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
        request.model_spec.signature_name = "classify"
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


def _git_revision() -> str | None:
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    except OSError:
        return None  # git is not installed
    return done.stdout.strip() or None
