"""Input ranges: how a network's inputs are computed from pixels of 0 to 255.

A network says nothing about the range of the numbers that it was trained on, and answers wrongly
and without an error when it is given another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from servable_serving.exporter.errors import ExportError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import tensorflow as tf
    from numpy.typing import NDArray

# Mean and standard deviation of ImageNet's images, as in keras.applications.imagenet_utils.
_CAFFE_MEAN = (103.939, 116.779, 123.68)  # blue, green, red; 0 to 255
_TORCH_MEAN, _TORCH_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # 0 to 1

_COLOUR = 3
# Numbers that were at most this far from 0 were no pixels of 0 to 255.
_SMALL = 3.0


@dataclass(frozen=True, kw_only=True)
class InputRange:
    """A way to compute a network's inputs from pixels.

    Each channel is `(pixel - mean) / deviation`, in reversed order if `reverse`.

    Attributes:
        name: Its name on the command line.
        mean: What is subtracted from a pixel of 0 to 255, for one or three channels.
        deviation: The divisor, likewise.
        reverse: Whether the channels become blue, green, red.
    """

    name: str
    mean: tuple[float, ...] = (0.0,)
    deviation: tuple[float, ...] = (1.0,)
    reverse: bool = False

    @property
    def needs_colour(self) -> bool:
        """Whether it is defined for images of three channels only."""
        return len(self.mean) == _COLOUR

    def apply(self, image: tf.Tensor, dtype: Any) -> tf.Tensor:
        """uint8 [..., C] to a network's input of `dtype`; computed in float32."""
        import tensorflow as tf

        values = tf.cast(image, tf.float32)
        if self.reverse:
            values = tf.reverse(values, axis=[-1])
        # As 1 / 255 is computed in notebooks: by one operation, or none.
        if any(self.mean):
            values = values - tf.constant(self.mean, tf.float32)
        if self.deviation != (1.0,):
            values = values / tf.constant(self.deviation, tf.float32)
        return tf.cast(values, dtype)

    def values(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """As `apply`, in NumPy: uint8 [..., C] to a network's inputs, float32 [..., C]."""
        values: NDArray[np.float32] = pixels.astype(np.float32)
        if self.reverse:
            values = values[..., ::-1]
        if any(self.mean):
            values -= np.array(self.mean, np.float32)
        if self.deviation != (1.0,):
            values /= np.array(self.deviation, np.float32)
        return values

    def pixels(self, values: NDArray[Any]) -> NDArray[np.uint8] | None:
        """The pixels that gave a network's inputs; None if no pixels of 0 to 255 can have."""
        raw = np.asarray(values, np.float64) * np.array(self.deviation) + np.array(self.mean)
        if self.reverse:
            raw = raw[..., ::-1]
        whole = np.round(raw)
        fits = np.isfinite(raw).all() and whole.min(initial=0) >= 0 and whole.max(initial=0) <= 255
        return whole.astype(np.uint8) if fits and np.abs(raw - whole).max(initial=0) < 0.1 else None


RANGES: Mapping[str, InputRange] = {
    one.name: one
    for one in (
        InputRange(name="0..1", deviation=(255.0,)),
        InputRange(name="-1..1", mean=(127.5,), deviation=(127.5,)),
        InputRange(name="0..255"),
        InputRange(name="caffe", mean=_CAFFE_MEAN, deviation=(1.0,) * 3, reverse=True),
        InputRange(
            name="torch",
            mean=tuple(255 * one for one in _TORCH_MEAN),
            deviation=tuple(255 * one for one in _TORCH_DEVIATION),
        ),
    )
}


def range_of(name: str) -> InputRange:
    """The input range of that name.

    Raises:
        ExportError: There is none.
    """
    if name not in RANGES:
        raise ExportError(
            f"{name!r} is not a valid input range", hint=f"the ranges are {', '.join(RANGES)}"
        )
    return RANGES[name]


def scales_itself(model: Any) -> bool:
    """Whether a Keras model scales pixels of 0 to 255 before its first layer with a kernel.

    By a Rescaling layer, by operations such as `x / 127.5 - 1`, or by a Normalization layer that
    was adapted to such pixels.
    """
    from keras import layers

    for operation in _operations(model):
        if isinstance(operation, layers.Rescaling):
            return True
        if isinstance(operation, layers.Normalization):
            mean, variance = np.asarray(operation.mean), np.asarray(operation.variance)
            return bool(np.abs(mean).max() + np.sqrt(variance).max() > _SMALL)
        if not isinstance(operation, layers.Layer):
            if type(operation).__name__ in {"Divide", "TrueDivide", "Multiply", "Subtract"}:
                return True
            continue
        if any(len(weight.shape) > 1 for weight in operation.weights):
            return False
    return False


def _operations(model: Any) -> Iterator[Any]:
    """The layers and operations of a model in their order, those of nested models in place."""
    for one in getattr(model, "operations", None) or getattr(model, "layers", None) or ():
        # Applications and augmentations are models within models.
        if getattr(one, "layers", None):
            yield from _operations(one)
        else:
            yield one


def choose(
    accuracy: Callable[[InputRange], float], *, colour: bool, count: int
) -> tuple[InputRange, dict[str, float]]:
    """The range in which a network classifies labelled examples best.

    Args:
        accuracy: Measures the accuracy on the examples, 0 to 1, for a range.
        colour: Whether images have three channels.
        count: The number of examples.

    Returns:
        The range, and the accuracy for each range by name.

    Raises:
        ExportError: No range is better than the second best by two standard errors.
    """
    found = {name: accuracy(one) for name, one in RANGES.items() if colour or not one.needs_colour}
    best, second = sorted(found, key=lambda name: found[name], reverse=True)[:2]
    p, q = found[best], found[second]
    error = ((p * (1 - p) + q * (1 - q)) / max(count, 1)) ** 0.5
    if p <= q or p - q < 2 * error:
        raise ExportError(
            f"the {count:,} examples do not show which input range the model was trained on: "
            f"accuracies are {told(found)}",
            hint="name it with --input-range, or give more examples with --examples",
        )
    return RANGES[best], found


def told(accuracies: Mapping[str, float]) -> str:
    """Accuracies by input range, for messages, best first."""
    ordered = sorted(accuracies.items(), key=lambda item: item[1], reverse=True)
    return ", ".join(f"{name} {value:.3f}" for name, value in ordered)
