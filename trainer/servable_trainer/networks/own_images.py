"""Labelled images as the inputs and targets of a user's own network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from servable_serving.exporter.image_network import as_probabilities, sum_to_one
from servable_serving.exporter.input_range import range_of, scales_itself
from servable_trainer.data.dataset import VALIDATION_SHARE
from servable_trainer.data.own_data import Part
from servable_trainer.networks.batches import one_hot
from servable_trainer.networks.own_network import NetworkError

if TYPE_CHECKING:
    import keras
    from numpy.typing import NDArray

    from servable_trainer.data.dataset import Dataset, Pictures

_GREY_RANK, _COLOUR = 2, 3
_SEVERAL = (-1,)
# One image to validate on for so many to train on, where a subset is taken.
_VALIDATED = 5


@dataclass(frozen=True, kw_only=True)
class ImageInputs:
    """How a network takes images, and what it answers.

    Attributes:
        input_range: The name of its input range; "0..255" if it scales pixels itself.
        channel: Whether grey images have an axis for their one channel.
        one_hot: Whether its loss takes one-hot targets, and not class numbers.
        dtype: Of its inputs.
        logits: Whether it answers with logits; known once it is trained.
    """

    input_range: str
    channel: bool
    one_hot: bool
    dtype: str
    logits: bool = False

    def part(self, pictures: Pictures, classes: int) -> Part:
        """Images and their targets for this network."""
        targets = one_hot(pictures.targets, classes) if self.one_hot else pictures.targets
        return Part(x=self.inputs(pictures.images), y=targets)

    def inputs(self, images: NDArray[np.uint8]) -> NDArray[Any]:
        """The network's inputs for images, uint8 [N, height, width] or [N, height, width, 3]."""
        grey = images.ndim == _GREY_RANK + 1
        pixels = images[..., np.newaxis] if grey else images
        values = pixels if self.dtype == "uint8" else range_of(self.input_range).values(pixels)
        return values if self.channel or not grey else values[..., 0]

    def probabilities(self, answers: NDArray[Any]) -> NDArray[np.float32]:
        """The network's answers [N, units] as probabilities, float32 [N, C]."""
        answers = np.asarray(answers, np.float32)
        binary = answers.shape[1] == 1
        kind = "none" if not self.logits else "sigmoid" if binary else "softmax"
        found = as_probabilities(tf.constant(answers), f"{kind} binary" if binary else kind)
        return np.asarray(found.numpy(), np.float32)

    def answers_logits(self, answers: NDArray[Any]) -> bool:
        """Whether answers [N, units] of a trained network are logits, and not probabilities."""
        answers = np.asarray(answers, np.float32)
        within = bool(answers.min() >= 0 and answers.max() <= 1)
        return not (within and (answers.shape[1] == 1 or sum_to_one(answers)))

    def parts(
        self,
        dataset: Dataset,
        *,
        seed: int,
        validation: float = VALIDATION_SHARE,
        subset: int | None = None,
    ) -> tuple[Part, Part | None]:
        """Training and validation part of a dataset for this network.

        Args:
            dataset: The images.
            seed: The same seed gives the same split.
            validation: Share of the validation part; 0 for none.
            subset: At most so many images to train on, and a fifth as many to validate on.
        """
        classes = len(dataset.labels)
        if not validation:
            return self.part(dataset.train, classes), None
        # Split and cut before they become floats, four times as large.
        fit, keep = first_of(dataset.split(seed=seed, validation=validation), subset)
        return self.part(fit, classes), self.part(keep, classes)


def first_of(parts: tuple[Any, Any], subset: int | None) -> tuple[Any, Any]:
    """The first `subset` examples of the training part, and a fifth as many to validate on."""
    if subset is None:
        return parts
    fit, validation = parts
    return fit.first(subset), validation.first(max(subset // _VALIDATED, 1))


def image_inputs(
    model: keras.Model,
    *,
    shape: tuple[int, ...],
    classes: int,
    input_range: str | None,
    name: str,
) -> ImageInputs:
    """Find out how a network takes images.

    Args:
        model: The network, compiled.
        shape: Of an image: height and width, and 3 if it is in colour.
        classes: Number of classes.
        input_range: The name of its input range; default: "0..255" if it scales pixels itself, and
            else "0..1".
        name: What to call the network in errors.

    Raises:
        ExportError: The input range is not a valid one.
        NetworkError: It takes other images, or answers with other classes.
    """
    grey = len(shape) == _GREY_RANK
    taken, given = _shape_of(model, "input_shape"), _shape_of(model, "output_shape")
    if _SEVERAL in (taken, given):
        raise NetworkError(
            f"{name} is not an image classifier: it has several inputs or outputs",
            hint="give data of its own with --data-from",
        )
    expected = {(*shape, 1), shape} if grey else {shape}
    if taken is not None and not any(_matches(taken, one) for one in expected):
        raise NetworkError(
            f"{name} takes inputs of {_times(taken)}, and the images are {_times(shape)}",
            hint="give data of its own with --data-from, or images of that size",
        )
    units = {(classes,), (1,)} if classes == 2 else {(classes,)}
    if given is not None and given not in units:
        raise NetworkError(
            f"{name} gives {_times(given)} numbers, and the images have {classes} classes",
            hint="give data of its own with --data-from",
        )
    if input_range is None:
        input_range = "0..255" if scales_itself(model) else "0..1"
    elif range_of(input_range).needs_colour and grey:
        raise NetworkError(f"the input range {input_range} is for images in colour")
    inputs = model.inputs if taken is not None else None
    return ImageInputs(
        input_range=input_range,
        channel=not grey or taken is None or len(taken) == _COLOUR,
        one_hot=given != (1,) and not _takes_class_numbers(model),
        dtype=str(inputs[0].dtype) if inputs else "float32",
    )


def _shape_of(model: keras.Model, attribute: str) -> tuple[int | None, ...] | None:
    """The shape of a network's only input or output, without its batch; None if not known yet."""
    try:
        shape = getattr(model, attribute)
    except AttributeError:  # not built
        return None
    if not isinstance(shape, tuple):
        return _SEVERAL
    return shape[1:]


def _matches(taken: tuple[int | None, ...], shape: tuple[int, ...]) -> bool:
    return len(taken) == len(shape) and all(
        side in (None, own) for side, own in zip(taken, shape, strict=True)
    )


def _takes_class_numbers(model: keras.Model) -> bool:
    """Whether its loss is named as Keras' losses of class numbers are."""
    loss = getattr(model, "loss", None)
    name = loss if isinstance(loss, str) else getattr(loss, "name", None)
    name = name or getattr(loss, "__name__", type(loss).__name__)
    return "sparse" in str(name).lower()


def _times(shape: tuple[int | None, ...]) -> str:
    return " x ".join("any" if side is None else str(side) for side in shape) or "one"
