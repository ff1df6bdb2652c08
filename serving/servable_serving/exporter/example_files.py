"""Examples in files: arrays in an .npz or .npy file, or a folder of images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import tensorflow as tf

from servable_client import InvalidInput
from servable_client.types.images import prepare
from servable_serving.core.arrays import read_arrays
from servable_serving.exporter.errors import ExportError
from servable_serving.model.preprocessing import decode

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

# The names that arrays of images and of class numbers have in files of datasets.
_IMAGES = ("images", "x_train", "x")
_TARGETS = ("targets", "y_train", "y")
_SUFFIXES = {".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp"}
# Enough to measure an accuracy by, and read in seconds.
_MOST = 1000


class ExampleFile(NamedTuple):
    """What a file of examples holds.

    Attributes:
        arrays: All arrays by name; the one of an .npy file as "".
        images: Those of images, if it has them.
        targets: Class numbers, if it has them.
    """

    arrays: dict[str, NDArray[Any]]
    images: NDArray[Any] | None
    targets: NDArray[Any] | None


class ImageFolder(NamedTuple):
    """Images from a folder.

    Attributes:
        images: uint8 [N, *shape].
        classes: The names of its subfolders, sorted; empty if it has none.
        targets: The number of each image's subfolder, int64 [N]; None if there are none.
    """

    images: NDArray[np.uint8]
    classes: list[str]
    targets: NDArray[np.int64] | None


def read_file(path: Path) -> ExampleFile:
    """Read an .npz or .npy file.

    Raises:
        ExportError: It cannot be read, or is not such a file.
    """
    try:
        arrays = read_arrays(path, unnamed=True)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not an .npz file without pickles"
        raise ExportError(
            f"cannot read {path}: {reason}", hint="np.savez(FILE, images=..., targets=...)"
        ) from error
    images, targets = (
        next((arrays[name] for name in names if name in arrays), None)
        for names in (_IMAGES, _TARGETS)
    )
    return ExampleFile(arrays, images, targets)


def read_folder(folder: Path, shape: tuple[int, ...]) -> ImageFolder:
    """Read images, resized as a server does.

    Args:
        folder: FOLDER/CLASS/*, FOLDER/train/CLASS/*, or FOLDER/*; the same number of each class.
        shape: Height and width, and 3 for colour.

    Raises:
        ExportError: There are none, or one cannot be read.
    """
    root = folder / "train" if (folder / "train").is_dir() else folder
    classes = sorted(
        entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith(".")
    )
    of_class = {name: _image_files(root / name) for name in classes} or {"": _image_files(root)}
    each = max(_MOST // len(of_class), 1)
    # In turns, so that the first ones are of every class.
    chosen = [
        (number, files[at])
        for at in range(min(each, max(map(len, of_class.values()), default=0)))
        for number, files in enumerate(of_class.values())
        if at < len(files)
    ]
    if not chosen:
        raise ExportError(
            f"{folder} holds no images",
            hint="give a folder with a subfolder of PNG, JPEG, GIF, BMP or WebP files per class",
        )
    channels = 1 if len(shape) == 2 else shape[2]
    images = np.stack([_read(path, shape[:2], channels) for _, path in chosen])
    targets = np.array([number for number, _ in chosen], np.int64)
    return ImageFolder(images, classes, targets if classes else None)


def _image_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES)


def _read(path: Path, size: tuple[int, ...], channels: int) -> NDArray[np.uint8]:
    try:
        data = prepare(path)
        encoded = tf.constant(data if isinstance(data, bytes) else path.read_bytes())
        pixels: NDArray[np.uint8] = decode(
            encoded, size=size, channels=channels, invert=False
        ).numpy()
    except InvalidInput as error:
        raise ExportError(f"the example {path} {error.reason}", hint="remove it") from error
    except (OSError, tf.errors.InvalidArgumentError) as error:
        raise ExportError(
            f"the example {path} cannot be read as an image", hint="remove it"
        ) from error
    return pixels
