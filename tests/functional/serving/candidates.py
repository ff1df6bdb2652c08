"""Candidates by other hands than `export`: good ones, and bad ones of every kind."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tests.functional.serving.fixture_models import LABELS, save

from servable_serving.exporter.contract_model import mark_classify
from servable_serving.model.contract import contract_of
from servable_serving.repository.manifest import MANIFEST, checksums

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class HandMade(tf.Module):
    """A convolutional classifier with variables, as somebody writes it who knows no contract.

    Its signatures are right, and nothing in its graph checks what comes in.
    """

    def __init__(self, *, checked: bool = False, seed: int = 0, inside: Any = None) -> None:
        super().__init__()
        draw = np.random.default_rng(seed).standard_normal
        self.kernel = tf.Variable(draw([3, 3, 1, 8]).astype("float32") / 3)
        self.dense = tf.Variable(draw([8, 10]).astype("float32"))
        self._checked, self._inside = checked, inside

    @tf.function(input_signature=[tf.TensorSpec([None, 28, 28], tf.uint8, name="image")])
    def serve(self, image: Any) -> dict[str, Any]:
        if self._checked:
            image = tf.ensure_shape(image, [None, 28, 28])
        x = tf.cast(image, tf.float32)[..., tf.newaxis] / 255.0
        if self._inside is not None:
            x = self._inside(x)
        x = tf.nn.relu(tf.nn.conv2d(x, self.kernel, 2, "SAME"))
        probabilities = tf.nn.softmax(tf.reduce_mean(x, [1, 2]) @ self.dense)
        best = tf.argmax(probabilities, axis=1)
        label = tf.gather(tf.constant(LABELS), best)
        return {"probabilities": probabilities, "class_id": best, "label": label}

    def signatures(self) -> dict[str, Any]:
        return {"serving_default": self.serve}


def hand_made(folder: Path, module: Any = None, **manifest: Any) -> Path:
    """Save a module as a candidate, with a manifest that fits it."""
    save(module or HandMade(), folder)
    if "classify" in contract_of(folder):
        mark_classify(folder)
    sign(folder, name="garments", labels=LABELS, **manifest)
    return folder


def edit_graph(folder: Path, change: Callable[[Any], object]) -> None:
    """Change a SavedModel's meta graph, and sign it anew."""
    path = folder / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    change(saved.meta_graphs[0])
    path.write_bytes(saved.SerializeToString())
    sign(folder)


def sign(folder: Path, **manifest: Any) -> None:
    """Write a manifest over what is in a folder now."""
    path = folder / MANIFEST
    path.parent.mkdir(exist_ok=True)
    before = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps({**before, **manifest, "sha256": checksums(folder)}))
