"""Folders of images, with a subfolder for each class, as a served model sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import tensorflow as tf

from servable_client import InvalidInput
from servable_client.types.images import prepare
from servable_serving.core.errors import FolderError
from servable_serving.model.preprocessing import decode

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_SUFFIXES = {".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp"}


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


def read_folder(
    folder: Path,
    shape: tuple[int, ...],
    *,
    part: str,
    most: int | None = None,
    invert: bool = False,
) -> ImageFolder:
    """Read images, resized as a server does.

    Args:
        folder: FOLDER/CLASS/*, FOLDER/PART/CLASS/*, or FOLDER/*.
        shape: Height and width, and 3 for colour.
        part: The subfolder that is preferred if there is one: "train" or "test".
        most: Read so many, the same number of each class; all unless given.
        invert: Whether grey images with a light border are inverted.

    Raises:
        FolderError: There are none, or one cannot be read.
    """
    root = folder / part if (folder / part).is_dir() else folder
    classes = sorted(
        entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith(".")
    )
    of_class = {name: _image_files(root / name) for name in classes} or {"": _image_files(root)}
    longest = max(map(len, of_class.values()), default=0)
    each = longest if most is None else min(max(most // len(of_class), 1), longest)
    # In turns, so that the first ones are of every class.
    chosen = [
        (number, files[at])
        for at in range(each)
        for number, files in enumerate(of_class.values())
        if at < len(files)
    ]
    if not chosen:
        raise FolderError(
            f"{folder} holds no images",
            hint="give a folder with a subfolder of PNG, JPEG, GIF, BMP or WebP files per class",
        )
    channels = 1 if len(shape) == 2 else shape[2]
    images = np.stack([_read(path, shape[:2], channels, invert=invert) for _, path in chosen])
    targets = np.array([number for number, _ in chosen], np.int64)
    return ImageFolder(images, classes, targets if classes else None)


def _image_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES)


def _read(path: Path, size: tuple[int, ...], channels: int, *, invert: bool) -> NDArray[np.uint8]:
    try:
        data = prepare(path)
        encoded = tf.constant(data if isinstance(data, bytes) else path.read_bytes())
        pixels: NDArray[np.uint8] = decode(
            encoded, size=size, channels=channels, invert=invert
        ).numpy()
    except InvalidInput as error:
        raise FolderError(f"the image {path} {error.reason}", hint="remove it") from error
    except (OSError, tf.errors.InvalidArgumentError) as error:
        raise FolderError(
            f"the image {path} cannot be read as an image", hint="remove it"
        ) from error
    return pixels
