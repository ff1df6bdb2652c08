"""Limits on what an encoded image costs, checked before it is decoded.

A file of 140 KB may hold 12,000 x 12,000 pixels, whose decoding takes seconds and gigabytes.
"""

from __future__ import annotations

import math

import tensorflow as tf

from servable_serving.core.names import (
    MAX_BYTES,
    MAX_GIF_BLOCKS,
    MAX_GIF_BYTES,
    MAX_REQUEST_PIXELS,
    MAX_ROW_VALUES,
    MAX_ROWS,
    MAX_SCANS,
    MAX_SIDE,
)

# The introducer of an image in a GIF.
_FRAME = 0x2C
# A side, or a number of scans, beyond every limit; its square is still an int64.
_TOO_MANY = 1 << 30
# Sequences that may begin a scan of a JPEG.
_MOST_PARTS = 1000


def refusals(
    encoded: tf.Tensor, declared: tf.Tensor | None = None, *, before: tf.Tensor | int = 0
) -> list[tf.Operation]:
    """Assertions that an image costs no more than the model contract allows.

    Args:
        encoded: The file, string [].
        declared: What `declared_cost` gives for it.
        before: The cost of the images of the same request before it, int64 [].
    """
    length = tf.strings.length(encoded)
    height, width, cost = tf.unstack(declared_cost(encoded) if declared is None else declared)
    is_gif = tf.equal(tf.strings.substr(encoded, 0, 4), b"GIF8")
    return [
        tf.debugging.Assert(length <= MAX_BYTES, ["an image of more than 10 MiB:", length]),
        tf.debugging.Assert(
            ~is_gif | (length <= MAX_GIF_BYTES),
            ["a GIF of more than 2 MiB; send its first frame, as a PNG"],
        ),
        tf.debugging.Assert(
            ~is_gif | (height < _TOO_MANY),
            ["a GIF of more than 32,768 blocks; send its first frame, as a PNG"],
        ),
        tf.debugging.Assert(
            (height <= MAX_SIDE) & (width <= MAX_SIDE),
            ["an image of more than 4096 x 4096 pixels:", width, "x", height],
        ),
        tf.debugging.Assert(
            cost <= MAX_REQUEST_PIXELS,
            ["a JPEG of too many scans for its size"],
        ),
        tf.debugging.Assert(
            before + cost <= MAX_REQUEST_PIXELS,
            ["images of more than 16 x 4096 x 4096 pixels in one request; send fewer at once"],
        ),
        tf.debugging.Assert(
            ~_is_animated_webp(encoded), ["an animated WebP; send its first frame, as a PNG"]
        ),
    ]


def declared_cost(encoded: tf.Tensor) -> tf.Tensor:
    """Height and width that a file declares, and its cost in pixels, int64 [3].

    Zeros where its format is not known. A JPEG is decoded once for each of its scans, which are
    cheaper than its first: four of them count as one more. A GIF is walked first, and counts eight
    pixels for each of its bytes at least. A file that is too large is not looked into.
    """
    small = tf.where(tf.strings.length(encoded) <= MAX_BYTES, encoded, "")
    height, width = _declared_size(small)
    scans = _scans(small)
    many = tf.constant(_TOO_MANY, tf.int64)
    times = tf.where(scans > MAX_SCANS, many, 1 + scans // 4)
    is_gif = tf.equal(tf.strings.substr(small, 0, 4), b"GIF8")
    bytes_ = tf.where(is_gif, tf.strings.length(small), 0)
    pixels = tf.minimum(height, many) * tf.minimum(width, many)
    return tf.stack([height, width, tf.maximum(pixels * times, 8 * tf.cast(bytes_, tf.int64))])


def max_rows(shape: tuple[int, ...]) -> int:
    """How many images of a shape one request may have.

    Args:
        shape: Height, width, and channels if it is in colour.
    """
    return max(min(MAX_ROWS, MAX_ROW_VALUES // math.prod(shape)), 1)


def limits_of(shape: tuple[int, ...]) -> dict[str, int]:
    """The limits of a graph for images of a shape, for its manifest.

    Args:
        shape: Height, width, and channels if it is in colour.
    """
    return {
        "rows": max_rows(shape),
        "image_bytes": MAX_BYTES,
        "image_side": MAX_SIDE,
        "request_pixels": MAX_REQUEST_PIXELS,
        "jpeg_scans": MAX_SCANS,
        "gif_bytes": MAX_GIF_BYTES,
        "gif_blocks": MAX_GIF_BLOCKS,
    }


def _is_animated_webp(encoded: tf.Tensor) -> tf.Tensor:
    """Whether a WebP declares an animation, bool []; TensorFlow's decoder writes past its buffer.

    By the flag that libwebp goes by (RFC 9649, 2.7): byte 20 of a file that begins with VP8X.
    """
    head = tf.strings.substr(tf.strings.join([encoded, tf.constant(b"\0" * 21)]), 0, 21)
    flags = tf.io.decode_raw(tf.strings.substr(head, 20, 1), tf.uint8)[0]
    return (
        tf.equal(tf.strings.substr(head, 0, 4), b"RIFF")
        & tf.equal(tf.strings.substr(head, 8, 8), b"WEBPVP8X")
        & (tf.bitwise.bitwise_and(flags, tf.constant(2, tf.uint8)) > 0)
    )


def _scans(encoded: tf.Tensor) -> tf.Tensor:
    """How many scans a JPEG has, int64 []; 0 for other files.

    By the headers of scans (ITU-T T.81, B.2.3): FF DA, a length of 6 + 2 n, n components. Between
    markers FF is never followed by DA.
    """

    def count() -> tf.Tensor:
        # What is behind FF DA and a length below 256; a file with a thousand of these is none that
        # a camera or a program wrote.
        parts = tf.strings.split([encoded], b"\xff\xda\0", maxsplit=_MOST_PARTS).values[1:]
        heads = tf.strings.substr(tf.strings.join([parts, tf.constant(b"\0\0")]), 0, 2)
        byte = tf.reshape(tf.io.decode_raw(heads, tf.uint8), [-1, 2])
        low, number = byte[:, 0], byte[:, 1]
        header = (low == 6 + 2 * number) & (number >= 1) & (number <= 4)
        found = tf.reduce_sum(tf.cast(header, tf.int64))
        many = tf.constant(_TOO_MANY, tf.int64)
        return tf.where(tf.size(parts) >= _MOST_PARTS, many, found)

    jpeg = tf.equal(tf.strings.substr(encoded, 0, 3), b"\xff\xd8\xff")
    return tf.cond(jpeg, count, lambda: tf.constant(0, tf.int64))


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
        weights = tf.constant([256**power for power in reversed(range(len(places)))], tf.int64)
        return tf.reduce_sum(tf.gather(byte, places) * weights)

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
        length = tf.strings.length(encoded)
        pixels = _gif_pixels(tf.where(length <= MAX_GIF_BYTES, encoded, ""))
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

    Not one after the other, which takes a loop of a million steps for a megabyte of tiny blocks:
    for every byte it is computed where the walk would go on from there, and these steps are doubled
    (Wyllie's pointer jumping, 1979) until they span the file. A GIF of too many blocks counts as
    one of too many pixels. GIF89a: https://www.w3.org/Graphics/GIF/spec-gif89a.txt
    """
    padded = tf.cast(
        tf.io.decode_raw(tf.strings.join([encoded, tf.constant(b"\0" * 16)]), tf.uint8), tf.int32
    )
    end = tf.size(padded) - 16
    place = tf.range(end)

    def at(offset: int) -> tf.Tensor:
        """The byte so far behind each place."""
        return padded[offset : end + offset]

    def colours(packed: tf.Tensor) -> tf.Tensor:
        """The size of the colour table that a packed field declares."""
        size = tf.bitwise.left_shift(tf.constant(6, tf.int32), packed % 8)
        return tf.where(packed >= 128, size, tf.zeros_like(size))

    # A state is twice a place, and one more inside a block, among its sub-blocks: each is behind
    # its length, and the last one is empty. The last state is the end.
    last = 2 * end
    kind = at(0)
    is_frame, is_extension = kind == _FRAME, kind == 0x21
    inside = 2 * (place + 1 + kind) + tf.cast(kind > 0, tf.int32)
    behind = tf.where(is_frame, place + 11 + colours(at(9)), place + 2)
    outside = tf.where(is_frame | is_extension, 2 * behind + 1, last)
    step = tf.reshape(tf.stack([outside, inside], axis=1), [-1])
    step = tf.concat([tf.minimum(step, last), [last]], axis=0)
    first = tf.minimum(2 * (13 + colours(padded[10])), last)

    # In a loop, since a graph without is larger, and so takes longer to load.
    _, states, _ = tf.while_loop(
        lambda doublings, *_: doublings < MAX_GIF_BLOCKS.bit_length() - 1,
        lambda doublings, states, jump: (
            doublings + 1,
            tf.concat([states, tf.gather(jump, states)], axis=0),
            tf.gather(jump, jump),
        ),
        (tf.constant(0), tf.reshape(first, [1]), step),
        shape_invariants=(tf.TensorShape([]), tf.TensorShape([None]), step.shape),
    )
    too_many = tf.gather(step, states[-1]) < last

    # Outside of blocks, where a frame begins, its width and height are behind four bytes.
    begins = tf.boolean_mask(states // 2, (states % 2 == 0) & (states < last))
    begins = tf.boolean_mask(begins, tf.gather(padded, begins) == _FRAME)
    sides = tf.cast(tf.gather(padded, begins[:, None] + tf.range(5, 9)[None]), tf.int64)
    pixels = tf.reduce_sum((sides[:, 0] + 256 * sides[:, 1]) * (sides[:, 2] + 256 * sides[:, 3]))
    return tf.where(too_many, tf.constant(_TOO_MANY * _TOO_MANY, tf.int64), pixels)
