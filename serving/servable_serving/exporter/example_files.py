"""Examples in files: arrays in an .npz or .npy file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from servable_serving.core.arrays import read_arrays
from servable_serving.exporter.errors import ExportError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

# The names that arrays of images and of class numbers have in files of datasets.
_IMAGES = ("images", "x_train", "x")
_TARGETS = ("targets", "y_train", "y")


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
