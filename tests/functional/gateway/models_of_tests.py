"""Models whose version can be told by their answer: y = (version + 1) x + 1."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tensorflow as tf
from tests.functional.serving.fixture_models import Linear, save

# tests/conftest.py, which names it too, imports libcurl, of which TensorFlow has an older one.
_SHIPPED = Path(__file__).parents[3] / "models" / "fashion_mnist" / "1"
_ROWS = tf.TensorSpec([None, 3], tf.float32, name="x")


def _pause(seconds: Any) -> Any:
    """Zero, after a time."""
    end = tf.timestamp() + tf.cast(seconds, tf.float64)
    _, zero = tf.while_loop(
        lambda now, _: now < end,
        lambda _, zero: (tf.timestamp(), zero),
        (tf.timestamp(), tf.constant(0.0)),
    )
    return zero


class Failing(Linear):
    """Right in its shape and wrong in all its answers: none comes."""

    @tf.function(input_signature=[_ROWS])
    def serve(self, x: Any) -> dict[str, Any]:
        with tf.control_dependencies([tf.debugging.assert_less(x, -1e30)]):
            return {"y": self.slope * x + 1.0}


class Slow(Linear):
    """Right, and late."""

    @tf.function(input_signature=[_ROWS])
    def serve(self, x: Any) -> dict[str, Any]:
        return {"y": self.slope * x + 1.0 + _pause(0.06)}


class Heads(tf.Module):
    """A label, three numbers a row, and one."""

    def __init__(self, *, slope: float = 2.0, level: float = 1.0) -> None:
        super().__init__()
        self.slope, self.level = slope, level

    @tf.function(input_signature=[_ROWS])
    def serve(self, x: Any) -> dict[str, Any]:
        total = tf.reduce_sum(x, axis=1)
        return {
            "label": tf.where(total > 0, "above", "below"),
            "y": self.slope * x + 1.0,
            "level": self.level * total,
        }

    def signatures(self) -> dict[str, Any]:
        return {"serving_default": self.serve}


class Nap(Linear):
    """Takes as many seconds as the first number says."""

    @tf.function(input_signature=[_ROWS])
    def serve(self, x: Any) -> dict[str, Any]:
        return {"y": x + _pause(x[0, 0])}


_PICTURES = tf.TensorSpec([None, 28, 28], tf.uint8, name="image")


class BadPictures(tf.Module):
    """In the place of a classifier: fails, or is late."""

    def __init__(self, *, late: float) -> None:
        super().__init__()
        self.late = late

    @tf.function(input_signature=[_PICTURES])
    def serve(self, image: Any) -> dict[str, Any]:
        checks = [] if self.late else [tf.debugging.assert_greater(tf.shape(image)[0], 10**6)]
        with tf.control_dependencies(checks):
            return {"probabilities": tf.zeros([tf.shape(image)[0], 10]) + _pause(self.late)}

    def signatures(self) -> dict[str, Any]:
        return {"serving_default": self.serve}


class Mislabelled(tf.Module):
    """The model that is shipped, as if it were trained with each label moved to the next class."""

    def __init__(self) -> None:
        super().__init__()
        self.shipped = tf.saved_model.load(str(_SHIPPED))

    @tf.function(input_signature=[_PICTURES])
    def serve(self, image: Any) -> dict[str, Any]:
        right = self.shipped.signatures["serving_default"](image=image)["probabilities"]
        return {"probabilities": tf.roll(right, 1, axis=1)}

    def signatures(self) -> dict[str, Any]:
        return {"serving_default": self.serve}


def save_all(root: Path) -> None:
    """Write them below `root`: good versions 1 and 2 of linear, 3 that fails, 4 that is slow."""
    for version, kind in enumerate((Linear, Linear, Failing, Slow), start=1):
        save(kind(version + 1), root / "linear" / str(version))
    heads = (Heads(), Heads(slope=2.02, level=0.99), Heads(slope=-2.0), Heads(level=-1.0))
    for version, one in enumerate(heads, start=1):
        save(one, root / "heads" / str(version))
    save(Nap(1), root / "nap" / "1")
    save(BadPictures(late=0.0), root / "failing")
    save(BadPictures(late=1.0), root / "late")
    save(Mislabelled(), root / "mislabelled")
