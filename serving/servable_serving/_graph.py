"""The graph of an image classifier: the model contract's three signatures.

Every input passes a check before the first kernel that could fail the process: TensorFlow
Serving enforces neither shapes nor sizes, and a wrong-rank input to a oneDNN convolution ends it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tensorflow as tf

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MAX_SIDE = 4096
MAX_BYTES = 10 << 20

# Feature of the tf.Example that `classify` reads; the name is TensorFlow's own convention.
IMAGE_FEATURE = "image/encoded"

# Decoding runs side by side within a batch, and each picture of the largest size takes about
# 300 MiB while it is shrunk.
_DECODE_PARALLEL = 2


class Classifier(tf.Module):  # type: ignore[misc]
    """An image classifier with the signatures of the model contract.

    Args:
        probabilities: uint8 [N, height, width] to float32 [N, C], for inference.
        variables: What `probabilities` reads, so that it is saved.
        labels: The name of each of the C classes.
        size: Height and width of a picture.
    """

    def __init__(
        self,
        probabilities: Callable[[tf.Tensor], tf.Tensor],
        *,
        variables: Sequence[tf.Variable],
        labels: Sequence[str],
        size: tuple[int, int],
    ) -> None:
        super().__init__(name="classifier")
        self._probabilities = probabilities
        self._weights = list(variables)
        self._labels = list(labels)
        self._size = size

    def signatures(self) -> dict[str, tf.types.experimental.ConcreteFunction]:
        """The three signatures, traced."""
        image = tf.TensorSpec([None, *self._size], tf.uint8, name="image")
        image_bytes = tf.TensorSpec([None], tf.string, name="image_bytes")
        examples = tf.TensorSpec([None], tf.string, name="inputs")
        # tf.Module keeps what is assigned to it: a function that nobody holds is not saved.
        self.functions = {
            "serving_default": _function(self._answer, image),
            "serving_bytes": _function(self._answer_bytes, image_bytes),
            "classify": _function(self._classify, examples),
        }
        return {name: f.get_concrete_function() for name, f in self.functions.items()}

    def _classify(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        examples = tf.io.parse_example(
            tf.ensure_shape(inputs, [None]), {IMAGE_FEATURE: tf.io.FixedLenFeature([], tf.string)}
        )
        answer = self._answer(self._decode(examples[IMAGE_FEATURE]))
        scores, order = tf.math.top_k(answer["probabilities"], k=len(self._labels))
        return {"classes": tf.gather(tf.constant(self._labels), order), "scores": scores}

    def _answer_bytes(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        return self._answer(self._decode(image_bytes))

    def _answer(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        image = tf.ensure_shape(image, [None, *self._size])
        probabilities = tf.ensure_shape(
            tf.cast(self._probabilities(image), tf.float32), [None, len(self._labels)]
        )
        class_id = tf.argmax(probabilities, axis=1, output_type=tf.int64)
        return {
            "probabilities": probabilities,
            "class_id": class_id,
            "label": tf.gather(tf.constant(self._labels), class_id),
        }

    def _decode(self, encoded: tf.Tensor) -> tf.Tensor:
        return tf.map_fn(
            lambda one: decode(one, size=self._size),
            tf.ensure_shape(encoded, [None]),
            fn_output_signature=tf.TensorSpec(self._size, tf.uint8),
            parallel_iterations=_DECODE_PARALLEL,
        )


def _function(run: Callable[[tf.Tensor], dict[str, tf.Tensor]], spec: tf.TensorSpec) -> Any:
    return tf.function(run, input_signature=[spec], autograph=False)


def decode(encoded: tf.Tensor, *, size: tuple[int, int]) -> tf.Tensor:
    """What a person would do by hand to make a picture look like the dataset's.

    Decode, put it on white where it is transparent, to grey, invert where the border is light,
    centre it on a ground of the border's own grey, and shrink with anti-aliasing.

    Args:
        encoded: A PNG, JPEG, GIF, BMP or WebP file, string []; of an animation the first frame.
        size: Height and width of the result.

    Returns:
        uint8 [height, width], light on dark. A grey picture of that very size comes out as it is.
    """
    with tf.control_dependencies(_refusals(encoded)):
        image = tf.io.decode_image(tf.identity(encoded), channels=0, expand_animations=False)
    grey = _to_grey(tf.ensure_shape(image, [None, None, None]))
    border = tf.concat([grey[0], grey[-1], grey[1:-1, 0], grey[1:-1, -1]], axis=0)
    ground = tf.reduce_mean(border)
    light = ground > 127.5
    grey = tf.where(light, 255.0 - grey, grey)
    ground = tf.where(light, 255.0 - ground, ground)
    canvas = _centre(grey, ground, size)
    small = tf.image.resize(canvas[..., tf.newaxis], size, antialias=True)[..., 0]
    return tf.cast(tf.clip_by_value(tf.round(small), 0.0, 255.0), tf.uint8)


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


def _centre(grey: tf.Tensor, ground: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    """Pad float32 [H, W] with `ground` to the proportions of `size`."""
    shape = tf.shape(grey)
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
    ]
    return tf.pad(grey - ground, padding) + ground


def _refusals(encoded: tf.Tensor) -> list[tf.Operation]:
    """Assertions that a picture is not too large, from its first bytes alone."""
    length = tf.strings.length(encoded)
    height, width = _declared_size(encoded)
    return [
        tf.debugging.Assert(length <= MAX_BYTES, ["a picture of more than 10 MiB:", length]),
        tf.debugging.Assert(
            (height <= MAX_SIDE) & (width <= MAX_SIDE),
            ["a picture of more than 4096 x 4096 pixels:", width, "x", height],
        ),
    ]


def _declared_size(encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Height and width that a file declares, int64 []; zeros where its format is not known.

    The formats are told apart as tf.io.decode_image does it. Sources: PNG (W3C) 11.2.2, GIF89a
    18, BITMAPINFOHEADER, RFC 9649 for WebP.
    """
    head = tf.strings.substr(encoded, 0, 32)
    head = tf.strings.join([head, tf.constant(b"\0" * 32)])
    byte = tf.cast(tf.io.decode_raw(tf.strings.substr(head, 0, 32), tf.uint8), tf.int64)

    def number(*places: int) -> tf.Tensor:
        """The bytes at `places`, the most significant first."""
        value = tf.constant(0, tf.int64)
        for place in places:
            value = value * 256 + byte[place]
        return value

    def starts(magic: bytes, at: int = 0) -> tf.Tensor:
        return tf.equal(tf.strings.substr(head, at, len(magic)), magic)

    def signed(value: tf.Tensor) -> tf.Tensor:
        """The size of a 32-bit number that may be negative: a BMP's rows from the top."""
        return tf.where(value >= 1 << 31, (1 << 32) - value, value)

    def jpeg() -> tf.Tensor:
        shape = tf.cast(tf.io.extract_jpeg_shape(encoded), tf.int64)
        return tf.stack([shape[0], shape[1]])

    def png() -> tf.Tensor:
        return tf.stack([number(20, 21, 22, 23), number(16, 17, 18, 19)])

    def gif() -> tf.Tensor:
        # The screen's size binds nobody: what is allocated is each frame at its own, all of them.
        pixels = _gif_pixels(encoded)
        side = tf.cast(tf.math.ceil(tf.sqrt(tf.cast(pixels, tf.float64))), tf.int64)
        return tf.stack([tf.maximum(number(9, 8), side), tf.maximum(number(7, 6), side)])

    def bmp() -> tf.Tensor:
        return tf.stack([signed(number(25, 24, 23, 22)), signed(number(21, 20, 19, 18))])

    def webp() -> tf.Tensor:
        lossy = tf.stack([number(29, 28) % (1 << 14), number(27, 26) % (1 << 14)])
        bits = number(24, 23, 22, 21)
        lossless = tf.stack([(bits // (1 << 14)) % (1 << 14) + 1, bits % (1 << 14) + 1])
        extended = tf.stack([number(29, 28, 27) + 1, number(26, 25, 24) + 1])
        kinds = tf.where(starts(b"VP8L", 12), lossless, extended)
        return tf.where(starts(b"VP8 ", 12), lossy, kinds)

    size = tf.case(
        [
            (starts(b"\xff\xd8\xff"), jpeg),
            (starts(b"\x89PNG\r\n\x1a\n"), png),
            (starts(b"GIF8"), gif),
            (starts(b"BM"), bmp),
            (starts(b"RIFF") & starts(b"WEBP", 8), webp),
        ],
        default=lambda: tf.zeros([2], tf.int64),
    )
    return size[0], size[1]


def _gif_pixels(encoded: tf.Tensor) -> tf.Tensor:
    """The pixels of all frames of a GIF together, int64 [], found by walking its blocks.

    The walk ends with the file, at what is no block, or once there are too many to be taken.
    GIF89a: https://www.w3.org/Graphics/GIF/spec-gif89a.txt
    """
    byte = tf.cast(tf.io.decode_raw(encoded, tf.uint8), tf.int64)
    end = tf.size(byte, out_type=tf.int64)

    def at(place: tf.Tensor) -> tf.Tensor:
        return tf.where(place < end, byte[tf.minimum(place, end - 1)], 0)

    def colours(packed: tf.Tensor) -> tf.Tensor:
        """The size of the colour table that a packed field declares."""
        size = tf.bitwise.left_shift(tf.constant(6, tf.int64), packed % 8)
        return tf.where(packed >= 128, size, tf.zeros_like(size))

    def going_on(place: tf.Tensor, _inside: tf.Tensor, pixels: tf.Tensor) -> tf.Tensor:
        return (place < end) & (pixels <= MAX_SIDE * MAX_SIDE)

    def step(
        place: tf.Tensor, inside: tf.Tensor, pixels: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        kind = at(place)
        # Inside a block: sub-blocks, each behind its length, until one of none.
        after_data = place + 1 + kind
        frame = (at(place + 6) * 256 + at(place + 5)) * (at(place + 8) * 256 + at(place + 7))
        after_frame = place + 11 + colours(at(place + 9))
        is_frame, is_extension = kind == 0x2C, kind == 0x21
        outside = tf.where(is_frame, after_frame, tf.where(is_extension, place + 2, end))
        return (
            tf.where(inside, after_data, outside),
            tf.where(inside, kind > 0, is_frame | is_extension),
            pixels + tf.where(~inside & is_frame, frame, tf.zeros_like(frame)),
        )

    first = 13 + colours(at(tf.constant(10, tf.int64)))
    _, _, pixels = tf.while_loop(
        going_on, step, (first, tf.constant(False), tf.constant(0, tf.int64))
    )
    return pixels
