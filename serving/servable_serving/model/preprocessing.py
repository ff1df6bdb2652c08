"""Preprocessing of encoded images, in the graph: decode, to grey, centre, shrink, invert."""

from __future__ import annotations

import tensorflow as tf

from servable_serving.model.exif import orientation, upright
from servable_serving.model.image_limits import refusals


def decode(
    encoded: tf.Tensor,
    *,
    size: tuple[int, ...],
    channels: int = 1,
    invert: bool = True,
    checks: list[tf.Operation] | None = None,
) -> tf.Tensor:
    """Decode an image and make it look like the dataset's.

    Rotate it by its Exif data, put transparent pixels on white, centre it on a background of its
    border's mean, and shrink it with anti-aliasing. For a dataset of light on dark, a grey image
    whose border is light is inverted; a colour image never is.

    Args:
        encoded: A PNG, JPEG, GIF, BMP or WebP file, string []; of a GIF the first frame. An
            animated WebP is refused.
        size: Height and width of the result.
        channels: 1 for grey, 3 for colour.
        invert: Whether a grey image with a light border is inverted.
        checks: What must hold before it is decoded; default: `refusals`.

    Returns:
        uint8 [height, width], or uint8 [height, width, 3]. An opaque image of exactly that size,
        not rotated, is unchanged unless it is inverted.
    """
    with tf.control_dependencies(refusals(encoded) if checks is None else checks):
        image = _decoded(tf.identity(encoded), grey=channels == 1)
    image = upright(tf.ensure_shape(image, [None, None, None]), orientation(encoded))
    image = tf.ensure_shape(image, [None, None, None])
    if channels == 1:
        grey = _to_grey(image)
        ground = _ground(_border(grey))
        canvas = _centre(grey, ground, size)[..., tf.newaxis]
    else:
        colour = _to_colour(image)
        ground = tf.cast(tf.round(_ground(tf.cast(_border(colour), tf.float32))), tf.uint8)
        canvas = _centre(colour, ground, size)
    small = tf.image.resize(canvas, size, antialias=True)
    if channels == 1 and invert:
        # After the resize, which is linear: of fewer pixels.
        small = tf.where(ground > 127.5, 255.0 - small, small)
    small = tf.cast(tf.clip_by_value(tf.round(small), 0.0, 255.0), tf.uint8)
    return small[..., 0] if channels == 1 else small


def _border(image: tf.Tensor) -> tf.Tensor:
    """The outermost pixels of [H, W, ...], once each, in a row."""
    return tf.concat([image[0], image[-1], image[1:-1, 0], image[1:-1, -1]], axis=0)


def _ground(border: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(border, axis=0)


def _decoded(encoded: tf.Tensor, *, grey: bool) -> tf.Tensor:
    """uint8 [H, W, 1 to 4]; of a colour JPEG its luma alone, if that is enough.

    The luma is what the file has: converting it to RGB and back takes as long as decoding. JPEGs of
    other colour spaces (CMYK) have no such conversion in libjpeg.
    """

    def whole() -> tf.Tensor:
        return tf.io.decode_image(encoded, channels=0, expand_animations=False)

    if not grey:
        return whole()

    def colours() -> tf.Tensor:
        return tf.io.extract_jpeg_shape(encoded)[2]

    is_jpeg = tf.equal(tf.strings.substr(encoded, 0, 3), b"\xff\xd8\xff")
    is_colour = tf.equal(tf.cond(is_jpeg, colours, lambda: tf.constant(0)), 3)
    return tf.cond(is_colour, lambda: tf.io.decode_jpeg(encoded, channels=1), whole)


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

    def single() -> tf.Tensor:
        return tf.cast(tf.reshape(image, tf.shape(image)[:2]), tf.float32)

    def mixed() -> tf.Tensor:
        weights = tf.cond(channels <= 2, lambda: tf.constant([1.0]), _bt601)
        colour = tf.cast(image[..., : tf.size(weights)], tf.float32)
        grey = tf.linalg.matvec(colour, weights)

        def on_white() -> tf.Tensor:
            alpha = tf.cast(image[..., -1], tf.float32) / 255.0
            return grey * alpha + 255.0 * (1.0 - alpha)

        return tf.cond(channels % 2 == 0, on_white, lambda: grey)

    return tf.ensure_shape(tf.cond(channels == 1, single, mixed), [None, None])


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
    return tf.cond(
        (full_height > height) | (full_width > width),
        lambda: tf.pad(image - ground, padding) + ground,
        lambda: image,
    )
