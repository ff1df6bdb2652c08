"""Limits on the size that an encoded image declares, checked before it is decoded.

A file of 140 KB may hold 12,000 x 12,000 pixels, whose decoding takes seconds and gigabytes.
"""

from __future__ import annotations

import tensorflow as tf

from servable_serving.core.names import MAX_BYTES, MAX_SIDE


def refusals(encoded: tf.Tensor) -> list[tf.Operation]:
    """Assertions that an image is not too large, from its first bytes alone."""
    length = tf.strings.length(encoded)
    height, width = _declared_size(encoded)
    return [
        tf.debugging.Assert(length <= MAX_BYTES, ["an image of more than 10 MiB:", length]),
        tf.debugging.Assert(
            (height <= MAX_SIDE) & (width <= MAX_SIDE),
            ["an image of more than 4096 x 4096 pixels:", width, "x", height],
        ),
    ]


def _declared_size(encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Height and width that a file declares, int64 []; zeros where its format is not known.

    Formats are detected as tf.io.decode_image does. Sources: PNG (W3C) 11.2.2, GIF89a
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
        # The logical screen's size is not a bound: memory is allocated for every frame.
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

    The walk ends with the file, at an invalid block, or once the limit is exceeded.
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
