"""Example images in the forms that notebooks keep them in, as uint8."""

from __future__ import annotations

from typing import Any

import numpy as np

from servable_serving.exporter.errors import ExportError
from servable_serving.exporter.input_range import RANGES, InputRange

_COLOUR = 3
# A grey image is on a dark ground if most of its border is dark; of examples nearly all must be.
_DARK, _NEARLY_ALL = 127.5, 0.95


def as_images(
    examples: Any, *, channels: int, input_range: str | None
) -> tuple[np.ndarray[Any, np.dtype[np.uint8]], str | None]:
    """Examples as pixels.

    Args:
        examples: Pixels of 0 to 255, or the numbers that a network was trained on: [N, height,
            width], [N, height, width, 1] or [N, height, width, 3].
        channels: Those of the network, 1 or 3.
        input_range: The name of its input range, if it is known.

    Returns:
        uint8 [N, height, width], or [N, height, width, 3] for colour; and the input range that the
        examples are in, if they are not pixels.

    Raises:
        ExportError: They are not images, or not of those channels.
    """
    array = np.asarray(examples)
    if array.ndim == 4 and array.shape[3] == 1:
        array = array[..., 0]
    fits = array.ndim == 3 if channels == 1 else array.ndim == 4 and array.shape[3] == _COLOUR
    if not fits or not len(array) or array.dtype.kind not in "uif":
        form = "[N, height, width]" if channels == 1 else "[N, height, width, 3]"
        raise ExportError(
            f"the examples are {array.dtype} {list(array.shape)}, and the model takes "
            f"{'grey' if channels == 1 else 'colour'} images: {form}"
        )
    if array.dtype == np.uint8:
        return array, None
    if (pixels := RANGES["0..255"].pixels(array)) is not None and array.max() > 1:
        return pixels, None
    ranges = _ranges(channels) if input_range is None else [RANGES[input_range]]
    for one in ranges:
        if (pixels := one.pixels(array)) is not None:
            return pixels, one.name
    raise ExportError(
        f"the examples are numbers from {array.min():.3g} to {array.max():.3g}, which are not "
        "pixels of 0 to 255" + (f" in the range {input_range}" if input_range else ""),
        hint="give the images as they were before they were scaled, in uint8",
    )


def are_light_on_dark(images: np.ndarray[Any, np.dtype[np.uint8]]) -> bool:
    """Whether grey images, uint8 [N, height, width], have a dark ground, as MNIST's have."""
    if images.ndim != 3:
        return False
    border = np.concatenate(
        [images[:, 0], images[:, -1], images[:, 1:-1, 0], images[:, 1:-1, -1]], axis=1
    )
    return bool((border.mean(axis=1) <= _DARK).mean() >= _NEARLY_ALL)


def _ranges(channels: int) -> list[InputRange]:
    return [
        one
        for one in RANGES.values()
        if one.name != "0..255" and (channels == _COLOUR or not one.needs_colour)
    ]
