"""The graph of an image classifier: the model contract's three signatures.

Every input passes a check before the first kernel that could fail the process: TensorFlow
Serving enforces neither shapes nor sizes, and a wrong-rank input to a oneDNN convolution ends it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tensorflow as tf

from servable_serving.core.names import (
    BYTES_SIGNATURE,
    CLASSIFY_SIGNATURE,
    DEFAULT_SIGNATURE,
    IMAGE_FEATURE,
)
from servable_serving.model.exif import orientation, upright
from servable_serving.model.image_limits import refusals

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


# Decoding runs side by side within a batch, and each picture of the largest size takes about
# 300 MiB while it is shrunk.
_DECODE_PARALLEL = 2


class Classifier:
    """An image classifier with the signatures of the model contract.

    What the signatures have in common, the network and the decoding of a picture, is a function
    that each calls: so the weights stand in the graph once.

    Args:
        probabilities: uint8 [N, *shape] to float32 [N, C], for inference, of constants alone.
        labels: The name of each of the C classes.
        shape: Height and width of a picture, and 3 where it is in colour.
    """

    def __init__(
        self,
        probabilities: Callable[[tf.Tensor], tf.Tensor],
        *,
        labels: Sequence[str],
        shape: tuple[int, ...],
    ) -> None:
        self._labels = list(labels)
        self._shape = shape
        self._image = tf.TensorSpec([None, *shape], tf.uint8, name="image")
        self._strings = tf.TensorSpec([None], tf.string, name="image_bytes")
        self._network = _function(probabilities, self._image)
        self._pictures = _function(self._decode, self._strings)

    def signatures(self) -> dict[str, tf.types.experimental.ConcreteFunction]:
        """The three signatures, traced."""
        functions = {
            DEFAULT_SIGNATURE: _function(self._answer, self._image),
            BYTES_SIGNATURE: _function(self._answer_bytes, self._strings),
            CLASSIFY_SIGNATURE: _function(
                self._classify, tf.TensorSpec([None], tf.string, name="inputs")
            ),
        }
        return {name: f.get_concrete_function() for name, f in functions.items()}

    def _classify(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        examples = tf.io.parse_example(
            tf.ensure_shape(inputs, [None]), {IMAGE_FEATURE: tf.io.FixedLenFeature([], tf.string)}
        )
        answer = self._answer(self._pictures(examples[IMAGE_FEATURE]))
        scores, order = tf.math.top_k(answer["probabilities"], k=len(self._labels))
        return {"classes": tf.gather(tf.constant(self._labels), order), "scores": scores}

    def _answer_bytes(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        return self._answer(self._pictures(tf.ensure_shape(image_bytes, [None])))

    def _answer(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        image = tf.ensure_shape(image, [None, *self._shape])
        probabilities = tf.ensure_shape(
            tf.cast(self._network(image), tf.float32), [None, len(self._labels)]
        )
        class_id = tf.argmax(probabilities, axis=1, output_type=tf.int64)
        return {
            "probabilities": probabilities,
            "class_id": class_id,
            "label": tf.gather(tf.constant(self._labels), class_id),
        }

    def _decode(self, encoded: tf.Tensor) -> tf.Tensor:
        size, channels = self._shape[:2], 1 if len(self._shape) == 2 else self._shape[2]
        return tf.map_fn(
            lambda one: decode(one, size=size, channels=channels),
            tf.ensure_shape(encoded, [None]),
            fn_output_signature=tf.TensorSpec(self._shape, tf.uint8),
            parallel_iterations=_DECODE_PARALLEL,
        )


def _function(run: Callable[[tf.Tensor], Any], spec: tf.TensorSpec) -> Any:
    return tf.function(run, input_signature=[spec], autograph=False)


def decode(encoded: tf.Tensor, *, size: tuple[int, ...], channels: int = 1) -> tf.Tensor:
    """What a person would do by hand to make a picture look like the dataset's.

    Decode, turn it as its Exif data say, put it on white where it is transparent, centre it on a
    ground of its border's mean, and shrink with anti-aliasing. In grey, a picture whose border is
    light is inverted; in colour none is.

    Args:
        encoded: A PNG, JPEG, GIF, BMP or WebP file, string []; of an animation the first frame.
        size: Height and width of the result.
        channels: 1 for grey, 3 for colour.

    Returns:
        uint8 [height, width], light on dark, or uint8 [height, width, 3]. A picture of that very
        size, opaque and not turned, comes out as it is, if it is dark at the border or in colour.
    """
    with tf.control_dependencies(refusals(encoded)):
        image = tf.io.decode_image(tf.identity(encoded), channels=0, expand_animations=False)
    image = upright(tf.ensure_shape(image, [None, None, None]), orientation(encoded))
    image = tf.ensure_shape(image, [None, None, None])
    if channels == 1:
        canvas = _centre(*_light_on_dark(_to_grey(image)), size)[..., tf.newaxis]
    else:
        colour = _to_colour(image)
        ground = tf.cast(tf.round(_ground(tf.cast(_border(colour), tf.float32))), tf.uint8)
        canvas = _centre(colour, ground, size)
    small = tf.image.resize(canvas, size, antialias=True)
    small = tf.cast(tf.clip_by_value(tf.round(small), 0.0, 255.0), tf.uint8)
    return small[..., 0] if channels == 1 else small


def _border(image: tf.Tensor) -> tf.Tensor:
    """The outermost pixels of [H, W, ...], once each, in a row."""
    return tf.concat([image[0], image[-1], image[1:-1, 0], image[1:-1, -1]], axis=0)


def _ground(border: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(border, axis=0)


def _light_on_dark(grey: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """float32 [H, W], inverted where its border is light, and its ground."""
    ground = _ground(_border(grey))
    light = ground > 127.5
    grey = tf.where(light, 255.0 - grey, grey)
    return grey, tf.where(light, 255.0 - ground, ground)


def _to_colour(image: tf.Tensor) -> tf.Tensor:
    """uint8 [H, W, 1 to 4] (grey, grey and alpha, RGB, RGBA) to uint8 [H, W, 3]."""
    channels = tf.shape(image)[2]
    opaque = image[..., : channels - (channels + 1) % 2]

    def on_white() -> tf.Tensor:
        alpha = tf.cast(image[..., -1:], tf.float32) / 255.0
        mixed = tf.cast(opaque, tf.float32) * alpha + 255.0 * (1.0 - alpha)
        return tf.cast(tf.round(mixed), tf.uint8)

    opaque = tf.cond(channels % 2 == 0, on_white, lambda: opaque)
    colour = tf.cond(channels <= 2, lambda: tf.repeat(opaque, 3, axis=2), lambda: opaque)
    return tf.ensure_shape(colour, [None, None, 3])


def _bt601() -> tf.Tensor:
    """ITU-R BT.601, as Pillow's convert("L")."""
    return tf.constant([0.299, 0.587, 0.114])


def _to_grey(image: tf.Tensor) -> tf.Tensor:
    """uint8 [H, W, 1 to 4] (grey, grey and alpha, RGB, RGBA) to float32 [H, W], 0 to 255."""
    channels = tf.shape(image)[2]
    weights = tf.cond(channels <= 2, lambda: tf.constant([1.0]), _bt601)
    colour = tf.cast(image[..., : tf.size(weights)], tf.float32)
    grey = tf.linalg.matvec(colour, weights)

    def on_white() -> tf.Tensor:
        alpha = tf.cast(image[..., -1], tf.float32) / 255.0
        return grey * alpha + 255.0 * (1.0 - alpha)

    return tf.cond(channels % 2 == 0, on_white, lambda: grey)


def _centre(image: tf.Tensor, ground: tf.Tensor, size: tuple[int, ...]) -> tf.Tensor:
    """Pad [H, W, ...] with `ground` to the proportions of `size`."""
    shape = tf.shape(image)
    height, width = shape[0], shape[1]
    ratio = size[1] / size[0]
    full_height = tf.maximum(
        height, tf.cast(tf.round(tf.cast(width, tf.float32) / ratio), tf.int32)
    )
    full_width = tf.maximum(width, tf.cast(tf.round(tf.cast(height, tf.float32) * ratio), tf.int32))
    above, left = (full_height - height) // 2, (full_width - width) // 2
    padding = [
        [above, full_height - height - above],
        [left, full_width - width - left],
        *[[0, 0]] * (image.shape.rank - 2),
    ]
    # tf.pad knows one number for all channels: so it pads what is less by the ground with 0. In
    # uint8 that wraps, and wraps back.
    return tf.pad(image - ground, padding) + ground
