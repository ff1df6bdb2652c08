"""Image files, read as the exported model reads them.

The pixels come from the client's `prepare` and the serving graph's own `decode`: a network is
trained on exactly the pixels that it sees when the same file is sent to a server.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import tensorflow as tf
from PIL import ExifTags, Image, UnidentifiedImageError

from servable_client import InvalidInput
from servable_client.cli.console import progress_bar
from servable_client.types.images import MAX_READ, prepare
from servable_serving.core.names import MAX_SIDE
from servable_serving.model.preprocessing import decode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP")

# Images are shrunk to this size before their pixels are checked for colour.
_LOOK = (256, 256)

_In = TypeVar("_In")
_Out = TypeVar("_Out")


@dataclass(frozen=True, kw_only=True)
class Header:
    """The header of an image file.

    Attributes:
        height: Rows, after the rotation of its Exif data.
        width: Columns, likewise.
        grey: Whether its mode has no colour.
    """

    height: int
    width: int
    grey: bool


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why a file cannot be used, as the rest of a sentence that begins with the file."""

    reason: str


def headers(paths: Sequence[Path]) -> list[Header | None]:
    """The header of each file; None if it cannot be read."""
    return list(_each(_header, paths, "reading image headers"))


def _header(path: Path) -> Header | None:
    try:
        with Image.open(path, formats=FORMATS) as image:
            height, width = image.height, image.width
            # For a PNG file, getexif would read all of it.
            if image.format == "JPEG" and image.getexif().get(ExifTags.Base.Orientation, 1) >= 5:
                height, width = width, height
            grey = image.mode in ("1", "L", "LA", "La", "F") or image.mode.startswith("I")
            return Header(height=height, width=width, grey=grey)
    except Exception:  # noqa: BLE001  # reading the pixels reports what is wrong
        return None


def has_colour(path: Path) -> bool:
    """Whether any pixel of an image has colour; False if it cannot be read."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            image.thumbnail(_LOOK)
            pixels = np.asarray(image.convert("RGB"))
    except Exception:  # noqa: BLE001  # as above
        return False
    return bool((pixels != pixels[..., :1]).any())


def read(
    paths: Sequence[Path], shape: tuple[int, ...]
) -> tuple[NDArray[np.uint8], list[bytes | Refusal]]:
    """Read image files and resize them to one shape.

    Args:
        paths: The files.
        shape: Height and width, and 3 for colour.

    Returns:
        uint8 [N, *shape], undefined for refused files; and the SHA-256 of each file's content, or
        why it was refused.
    """
    images = np.empty((len(paths), *shape), np.uint8)
    found: list[bytes | Refusal] = []
    for index, outcome in enumerate(_each(partial(_read, _decoder(shape)), paths, "reading")):
        if isinstance(outcome, Refusal):
            found.append(outcome)
        else:
            digest, images[index] = outcome
            found.append(digest)
    return images, found


def _read(
    decoded: Callable[[bytes], NDArray[np.uint8]], path: Path
) -> tuple[bytes, NDArray[np.uint8]] | Refusal:
    limit = f"more than {MAX_SIDE} x {MAX_SIDE} pixels"
    try:
        if not path.is_file():
            return Refusal(reason="is a broken link" if path.is_symlink() else "is not a file")
        if path.stat().st_size > MAX_READ:
            return Refusal(reason=f"is larger than {MAX_READ >> 20} MiB")
        data = path.read_bytes()
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if max(image.size) > MAX_SIDE:
                return Refusal(reason=f"has {image.width} x {image.height}, {limit}")
        ready = prepare(data)
        assert isinstance(ready, bytes)
        return hashlib.sha256(data).digest(), decoded(ready)
    except Image.DecompressionBombError:
        return Refusal(reason=f"has {limit}")
    except UnidentifiedImageError:
        return Refusal(reason=f"is not a valid {', '.join(FORMATS[:-1])} or {FORMATS[-1]} image")
    except InvalidInput as error:
        return Refusal(reason=error.reason)
    except OSError as error:
        return Refusal(reason=f"cannot be read: {error.strerror or error}")
    except tf.errors.InvalidArgumentError:
        return Refusal(reason="is damaged, or of a format variant that the server cannot decode")
    except Exception as error:  # noqa: BLE001  # Pillow raises many kinds of errors
        return Refusal(reason=f"is damaged: {error}")


@lru_cache(maxsize=4)
def _decoder(shape: tuple[int, ...]) -> Callable[[bytes], NDArray[np.uint8]]:
    """The serving graph's `decode` as a function of a file's bytes; tracing takes a second."""
    channels = 1 if len(shape) == 2 else shape[2]
    with tf.device("CPU:0"):
        function = tf.function(
            lambda encoded: decode(encoded, size=shape[:2], channels=channels),
            input_signature=[tf.TensorSpec([], tf.string)],
            autograph=False,
        ).get_concrete_function()

    def decoded(data: bytes) -> NDArray[np.uint8]:
        with tf.device("CPU:0"):
            pixels: NDArray[np.uint8] = function(tf.constant(data)).numpy()
        return pixels

    return decoded


def _each(work: Callable[[_In], _Out], items: Sequence[_In], title: str) -> Iterator[_Out]:
    """Yield the outcome of `work` for each item, in order, with a progress bar."""
    with (
        warnings.catch_warnings(),
        progress_bar() as progress,
        ThreadPoolExecutor(_cores()) as pool,
    ):
        # Pillow warns of sizes that are refused here anyway.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        task = progress.add_task(title, total=len(items))
        for outcome in pool.map(work, items):
            progress.advance(task)
            yield outcome


def _cores() -> int:
    # A container may be limited to fewer than the machine has.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available_memory() -> int | None:
    """Bytes of memory available to this process; None if unknown."""
    found = []
    try:
        fields = dict(
            line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines() if line
        )
        found.append(int(fields["MemAvailable"].split()[0]) << 10)
    except (OSError, KeyError, ValueError):
        with contextlib.suppress(OSError, ValueError):
            found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    # The limit of a container; "max" if there is none.
    for limit in ("memory.max", "memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):
            found.append(int((Path("/sys/fs/cgroup") / limit).read_text()))
    return min(found, default=None)
