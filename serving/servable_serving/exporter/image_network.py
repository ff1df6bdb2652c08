"""Any image classifier as a function of uint8 images.

Its inputs are computed from pixels by its input range, and its answers become probabilities: by a
softmax or a sigmoid if they are logits, and of a single sigmoid unit those of both classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from servable_serving.exporter.errors import ExportError
from servable_serving.exporter.input_range import (
    RANGES,
    InputRange,
    choose,
    range_of,
    scales_itself,
)
from servable_serving.exporter.keras_source import constant

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

_CHANNELS = (1, 3)
_IMAGE_RANK = 4
# A smaller side is that of a table or a series of numbers.
_SMALLEST = 8
_NOISE = 8
_BATCH = 32
# bfloat16's eight bits make a sum of many probabilities that inexact.
_SUM_TOLERANCE = 0.02
# As many as this, and the accuracy is known to about three per cent.
_MEASURED = 1000


@dataclass(frozen=True, kw_only=True)
class ImageOptions:
    """What a network does not say about itself.

    Attributes:
        input_range: The name of its input range; None if it scales pixels itself, or if labelled
            examples are to show it.
        logits: Whether its answers are logits.
        multi_label: Whether each class has a probability of its own, by a sigmoid.
        size: Height and width of the images, for a network of free size.
    """

    input_range: str | None = None
    logits: bool = False
    multi_label: bool = False
    size: tuple[int, int] | None = None


@dataclass(frozen=True, kw_only=True)
class ImageNetwork:
    """A network that takes an image and gives a number for each class.

    Attributes:
        call: For inference, [N, *shape] of `dtype` to [N, units]; of constants alone.
        shape: Of one input: height and width, None if free, and perhaps channels.
        dtype: Of the input.
        units: Numbers in an answer.
        activation: "softmax", "sigmoid" or "linear", of the last layer; None if not known.
        scaling: Whether it computes its own input range from pixels; None if not known.
    """

    call: Callable[[tf.Tensor], tf.Tensor]
    shape: tuple[int | None, ...]
    dtype: tf.DType
    units: int
    activation: str | None
    scaling: bool | None

    @property
    def channels(self) -> int:
        """1 for grey, 3 for colour."""
        return 1 if len(self.shape) == _IMAGE_RANK - 2 else int(self.shape[-1] or 1)


@dataclass(frozen=True, kw_only=True)
class ImageClassifier:
    """A network with all that it needs to classify uint8 images.

    Attributes:
        probabilities: uint8 [N, *shape] to float32 [N, classes].
        shape: Of one image: height and width, and 3 if it is in colour.
        classes: How many there are.
        input_range: The name of its input range.
        accuracies: The accuracy on labelled examples by input range, where that was measured.
    """

    probabilities: Callable[[tf.Tensor], tf.Tensor]
    shape: tuple[int, ...]
    classes: int
    input_range: str
    accuracies: dict[str, float]


def is_image(shape: tuple[int | None, ...], dtype: tf.DType) -> bool:
    """Whether an input, [N, ...], may be images: of one or three channels, or grey without any."""
    if not (dtype.is_floating or dtype == tf.uint8):
        return False
    sides = shape[1:3]
    if len(shape) not in (_IMAGE_RANK - 1, _IMAGE_RANK) or len(sides) != 2:
        return False
    if any(side is not None and side < _SMALLEST for side in sides):
        return False
    if len(shape) == _IMAGE_RANK:
        return shape[3] in _CHANNELS
    return None not in sides


def classifier_of(
    network: ImageNetwork,
    options: ImageOptions,
    *,
    images: NDArray[Any] | None,
    targets: NDArray[np.int64] | None,
) -> ImageClassifier:
    """Complete a network to a classifier of uint8 images.

    Args:
        network: The network.
        options: What was said about it.
        images: Examples, uint8 [N, *shape]; noise is used if there are none.
        targets: Their class numbers, int64 [N], if they are known.

    Raises:
        ExportError: Something must be said about it that was not, or what was said is wrong.
    """
    shape = image_shape(network, options)
    if images is not None and images.shape[1:] != shape:
        raise ExportError(
            f"the examples have the shape {list(images.shape[1:])}, and the model takes images of "
            f"{list(shape)}"
        )
    if images is None or not len(images):
        images, targets = noise(shape, _NOISE), None
    few = images[:_BATCH]
    range_, accuracies = _input_range(network, options, images, targets)
    raw = _run(network, range_, few)
    kind = _kind_of(network, options, raw)

    def probabilities(image: tf.Tensor) -> tf.Tensor:
        return as_probabilities(network.call(_inputs(network, range_, image)), kind)

    return ImageClassifier(
        probabilities=probabilities,
        shape=shape,
        classes=max(network.units, 2),
        input_range=range_.name,
        accuracies=accuracies,
    )


def noise(shape: tuple[int, ...], count: int) -> NDArray[np.uint8]:
    """Images of random pixels, the same in each call."""
    return np.random.default_rng(0).integers(0, 256, [count, *shape], np.uint8)


def image_shape(network: ImageNetwork, options: ImageOptions) -> tuple[int, ...]:
    """Height and width of the images that a classifier takes, and 3 for colour.

    Raises:
        ExportError: The network takes any size and none was said, or another was.
    """
    sides = network.shape[:2]
    size = options.size
    if size is None and None in sides:
        raise ExportError(
            f"the model takes images of any size ({_shown(network.shape)}), and a signature needs "
            "one",
            hint="name it with --size HEIGHTxWIDTH: images of other sizes are resized to it",
        )
    if size is not None and any(s not in (None, n) for s, n in zip(sides, size, strict=True)):
        raise ExportError(
            f"the model takes images of {_shown(network.shape)}, not of {size[0]} x {size[1]}",
            hint="leave out --size",
        )
    height, width = size or (int(sides[0] or 0), int(sides[1] or 0))
    return (height, width) if network.channels == 1 else (height, width, network.channels)


def _shown(shape: tuple[int | None, ...]) -> str:
    return " x ".join("any" if side is None else str(side) for side in shape)


def _input_range(
    network: ImageNetwork,
    options: ImageOptions,
    images: NDArray[np.uint8],
    targets: NDArray[np.int64] | None,
) -> tuple[InputRange, dict[str, float]]:
    """The network's input range, and the accuracies by range that were measured to find it."""
    if options.input_range is not None:
        found = range_of(options.input_range)
        if found.needs_colour and network.channels == 1:
            raise ExportError(f"the input range {found.name} is for images in colour")
        return found, {}
    if network.dtype == tf.uint8 or network.scaling:
        return RANGES["0..255"], {}
    if targets is None:
        what = "it cannot be seen whether the model scales pixels itself"
        if network.scaling is False:
            what = "the model does not scale pixels itself"
        raise ExportError(
            f"{what}, so the input range that it was trained on must be told",
            hint="--input-range 0..1 if the training images were divided by 255, -1..1 if by 127.5 "
            "less 1, 0..255 if they were taken as they are, caffe or torch for the preprocess_input"
            " of that mode; or give labelled --examples, and it is measured",
        )
    some = slice(0, _MEASURED)

    def accuracy(range_: InputRange) -> float:
        given = np.concatenate(
            [
                _run(network, range_, images[some][at : at + _BATCH])
                for at in range(0, len(images[some]), _BATCH)
            ]
        )
        truth = targets[some]
        if network.units == 1:
            threshold = 0.0 if options.logits else 0.5
            return float(((given[:, 0] > threshold) == truth).mean())
        return float((given.argmax(axis=1) == truth).mean())

    return choose(accuracy, colour=network.channels > 1, count=len(images[some]))


def _inputs(network: ImageNetwork, range_: InputRange, image: tf.Tensor) -> tf.Tensor:
    """uint8 images as the network takes them."""
    if network.channels == 1 and len(network.shape) == _IMAGE_RANK - 1:
        image = image[..., tf.newaxis]
    if network.dtype == tf.uint8:
        return image
    return range_.apply(image, network.dtype)


def _run(network: ImageNetwork, range_: InputRange, images: NDArray[np.uint8]) -> NDArray[Any]:
    """The network's answers as they are, float32 [N, units]."""
    answers = network.call(_inputs(network, range_, tf.constant(images)))
    found: NDArray[Any] = tf.cast(answers, tf.float32).numpy()
    return found


def _kind_of(network: ImageNetwork, options: ImageOptions, answers: NDArray[Any]) -> str:
    """How probabilities are computed from answers.

    Returns:
        "softmax", "sigmoid" or "none", followed by " binary" for a single unit.

    Raises:
        ExportError: The answers are not what was said.
    """
    single = network.units == 1
    if options.multi_label and single:
        raise ExportError(
            "--multi-label is for several classes, and the model has one output unit",
            hint="leave it out: one unit is a class and its opposite",
        )
    within = bool(np.isfinite(answers).all() and answers.min() >= 0 and answers.max() <= 1)
    sums_to_one = within and not single and sum_to_one(answers)
    if options.logits:
        if network.activation in {"softmax", "sigmoid"} or sums_to_one:
            raise ExportError(
                "the model gives probabilities, not logits: "
                f"its last layer is a {network.activation or 'softmax'}",
                hint="leave out --logits",
            )
        return "sigmoid binary" if single else "sigmoid" if options.multi_label else "softmax"
    if single:
        if within and network.activation != "linear":
            return "none binary"
    elif options.multi_label:
        if within:
            return "none"
    elif sums_to_one:
        return "none"
    elif within and network.activation == "sigmoid":
        raise ExportError(
            f"the model gives {network.units} numbers of 0 to 1 that do not sum to 1: its last "
            "layer is a sigmoid",
            hint="give --multi-label if an image may be of several classes at once",
        )
    what = f"numbers from {answers.min():.3g} to {answers.max():.3g}"
    if network.activation == "linear":
        what += ", and its last layer has no activation"
    raise ExportError(
        f"the model does not give probabilities: it gives {what}",
        hint="give --logits if a softmax or sigmoid makes probabilities of them"
        + ("" if single else " (--multi-label for several sigmoids)")
        + ", or --keep-signatures if the model is not a classifier",
    )


def sum_to_one(answers: NDArray[Any]) -> bool:
    """Whether each row of answers [N, units] sums to one, as probabilities do."""
    return bool(np.abs(answers.sum(axis=1) - 1).max() < _SUM_TOLERANCE)


def as_probabilities(answers: tf.Tensor, kind: str) -> tf.Tensor:
    """The probability of each class.

    Args:
        answers: [N, units].
        kind: "softmax" or "sigmoid" of logits, or "none"; followed by " binary" for a single unit,
            which stands for two classes.

    Returns:
        float32 [N, classes].
    """
    answers = tf.cast(answers, tf.float32)
    if kind.startswith("softmax"):
        return tf.nn.softmax(answers)
    if kind.startswith("sigmoid"):
        answers = tf.sigmoid(answers)
    return tf.concat([1.0 - answers, answers], axis=1) if kind.endswith("binary") else answers


def keras_network(model: Any) -> ImageNetwork | None:
    """A Keras model as a network for images; None if it is not an image classifier."""
    inputs, outputs = model.inputs or [], model.outputs or []
    if len(inputs) != 1 or len(outputs) != 1:
        return None
    shape, dtype = tuple(inputs[0].shape), tf.as_dtype(str(inputs[0].dtype))
    answer = tuple(outputs[0].shape)
    if len(answer) != 2 or answer[1] is None or not tf.as_dtype(str(outputs[0].dtype)).is_floating:
        return None
    if not is_image(shape, dtype) or (len(shape) == _IMAGE_RANK - 1 and _is_sequential_data(model)):
        return None
    return ImageNetwork(
        call=constant(model),
        shape=shape[1:],
        dtype=dtype,
        units=int(answer[1]),
        activation=_activation(model),
        scaling=scales_itself(model) or (None if _has_own_code(model) else False),
    )


def _is_sequential_data(model: Any) -> bool:
    """Whether a model of inputs [N, n, m] takes series of numbers: by its layers."""
    from keras import layers

    series = (
        layers.RNN, layers.Bidirectional, layers.Conv1D, layers.MaxPooling1D,
        layers.GlobalAveragePooling1D, layers.MultiHeadAttention, layers.TimeDistributed,
    )  # fmt: skip
    return any(isinstance(one, series) for one in _layers(model))


def _layers(model: Any) -> list[Any]:
    return [
        inner
        for one in getattr(model, "layers", [])
        for inner in (_layers(one) if getattr(one, "layers", None) else [one])
    ]


def _has_own_code(model: Any) -> bool:
    """Whether a model, or one within it, is subclassed, so that its layers do not tell it all."""
    inner = [one for one in getattr(model, "layers", ()) if hasattr(one, "layers")]
    return not _is_in_order(model) or any(map(_has_own_code, inner))


def _is_in_order(model: Any) -> bool:
    """Whether a model's layers are called in their order: it is sequential or functional."""
    import keras

    return isinstance(model, keras.Sequential) or hasattr(model, "operations")


def _activation(model: Any) -> str | None:
    """The name of the activation of a model's last layer; None if it is not known."""
    import keras

    last = model
    while getattr(last, "layers", None):
        if not _is_in_order(last):
            return None
        outputs = getattr(last, "outputs", None) or []
        history = getattr(outputs[0], "_keras_history", None) if outputs else None
        operation = history.operation if history is not None else last.layers[-1]
        last = operation if operation is not last else last.layers[-1]
    if isinstance(last, keras.layers.Softmax):
        return "softmax"
    activation = getattr(last, "activation", None)
    name = getattr(activation, "__name__", None)
    if isinstance(last, keras.layers.Dense | keras.layers.Activation) or name is not None:
        return str(name) if name in {"softmax", "sigmoid", "linear"} else None
    return None
