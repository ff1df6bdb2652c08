"""Which way up a photograph is: cameras store it as the sensor lies, and note how to turn it.

Read in the graph, since tf.io.decode_image passes over it. Sources: CIPA DC-008 (Exif 2.32) 4.5 and
4.6.4, TIFF 6.0 section 2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import tensorflow as tf

if TYPE_CHECKING:
    from collections.abc import Callable

# Exif stands in one segment of at most 64 KiB, right behind the file's start or its JFIF segment.
_HEAD = 1 << 17
_MAX_SEGMENTS = 16
_MAX_FIELDS = 1000

_TAG, _LONG = 0x0112, 4
# In the head of a segment, of the marker and of "Exif".
_EXIF_PLACES = (1, 4, 5, 6, 7, 8, 9)


def orientation(encoded: tf.Tensor) -> tf.Tensor:
    """The Exif orientation of an encoded image, string [], as int64 []: 1 to 8.

    1, not rotated, if the file is not a JPEG, or its Exif data are missing or damaged.
    """
    jpeg = tf.equal(tf.strings.substr(encoded, 0, 3), b"\xff\xd8\xff")
    return tf.cond(jpeg, lambda: _of_jpeg(encoded), lambda: tf.constant(1, tf.int64))


def upright(image: tf.Tensor, turn: tf.Tensor) -> tf.Tensor:
    """Rotate and mirror [H, W, C] as `orientation` requires."""

    def turned() -> tf.Tensor:
        out = tf.cond(turn >= 5, lambda: tf.transpose(image, [1, 0, 2]), lambda: image)
        mirrored = _one_of(turn, 2, 3, 6, 7)
        out = tf.cond(mirrored, lambda: tf.reverse(out, [1]), lambda: out)
        upside_down = _one_of(turn, 3, 4, 7, 8)
        return tf.cond(upside_down, lambda: tf.reverse(out, [0]), lambda: out)

    return tf.cond(turn > 1, turned, lambda: image)


def _one_of(value: tf.Tensor, *values: int) -> tf.Tensor:
    return tf.reduce_any(value == tf.constant(values, tf.int64))


def _of_jpeg(encoded: tf.Tensor) -> tf.Tensor:
    data = tf.io.decode_raw(tf.strings.substr(encoded, 0, _HEAD), tf.uint8)
    end = tf.size(data, out_type=tf.int64)

    def at(places: tf.Tensor) -> tf.Tensor:
        """The bytes at some places, int64; zeros beyond the end."""
        return tf.where(
            places < end, tf.cast(tf.gather(data, tf.minimum(places, end - 1)), tf.int64), 0
        )

    def is_exif(segment: tf.Tensor) -> tf.Tensor:
        return tf.reduce_all(
            tf.gather(segment, _EXIF_PLACES) == tf.constant([0xE1, *b"Exif\0\0"], tf.int64)
        )

    def segment_at(place: tf.Tensor) -> tf.Tensor:
        """The head of a segment: FF, a marker, the length, and what Exif data begin with."""
        return at(place + tf.range(10, dtype=tf.int64))

    def going_on(_: tf.Tensor, segment: tf.Tensor) -> tf.Tensor:
        marker = segment[1]
        of_an_application = ((marker >= 0xE0) & (marker <= 0xEF)) | (marker == 0xFE)
        return (segment[0] == 0xFF) & of_an_application & ~is_exif(segment)

    def next_segment(place: tf.Tensor, segment: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        place += 2 + 256 * segment[2] + segment[3]
        return place, segment_at(place)

    first = tf.constant(2, tf.int64)
    place, segment = tf.while_loop(
        going_on, next_segment, (first, segment_at(first)), maximum_iterations=_MAX_SEGMENTS
    )
    return tf.cond(
        is_exif(segment), lambda: _of_tiff(at, place + 10), lambda: tf.constant(1, tf.int64)
    )


def _of_tiff(at: Callable[[tf.Tensor], tf.Tensor], start: tf.Tensor) -> tf.Tensor:
    """The orientation in the first directory of TIFF data, whose bytes `at` gives."""
    little = at(start) == ord("I")

    def number(places: tf.Tensor, size: int) -> tf.Tensor:
        """The numbers of some bytes at places, int64 [] or [n]."""
        powers = [256**power for power in range(size)]
        weights = tf.where(little, tf.constant(powers, tf.int64), powers[::-1])
        read = at(places[..., tf.newaxis] + tf.range(size, dtype=tf.int64))
        return tf.reduce_sum(read * weights, axis=-1)

    directory = start + number(start + 4, 4)
    count = tf.minimum(number(directory, 2), _MAX_FIELDS)
    fields = directory + 2 + 12 * tf.range(count)
    found = tf.boolean_mask(fields, number(fields, 2) == _TAG)[:1]
    values = tf.where(number(found + 2, 2) == _LONG, number(found + 8, 4), number(found + 8, 2))
    value = tf.reduce_sum(values)  # of one, or none
    return tf.where((value >= 1) & (value <= 8), value, tf.ones_like(value))
