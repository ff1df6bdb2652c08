"""Held-out images, with which a candidate and the served version are compared.

A package that knows a dataset provides it under the entry point group `servable.holdouts`, by the
name of the model: a callable that takes the dataset's folder, or None to look for it, and returns
the images, their class numbers and the classes' names. So this package needs no dataset.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from servable_client import ServableError
from servable_client._extras import how_to_install
from servable_serving.core.arrays import read_arrays
from servable_serving.core.lazy_tensorflow import import_tensorflow_runtime
from servable_serving.core.names import DEFAULT_SIGNATURE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

GROUP = "servable.holdouts"
_GREY_RANK = 2


class HoldoutError(ServableError):
    """A held-out set cannot be read, or is not valid."""


@dataclass(frozen=True, kw_only=True)
class Holdout:
    """Images with their true classes.

    Attributes:
        source: Where they come from, for messages.
        images: uint8 [N, height, width], or [N, height, width, 3] in colour.
        targets: Class numbers, int64 [N].
        labels: The name of each class, by its number; empty if only the numbers are known.
    """

    source: str
    images: NDArray[np.uint8] = field(repr=False)
    targets: NDArray[np.int64] = field(repr=False)
    labels: tuple[str, ...] = ()


def find_holdout(
    model: str,
    *,
    file: Path | None = None,
    data: Path | None = None,
    manifest: Mapping[str, Any] | None = None,
) -> Holdout | None:
    """The held-out set for a model.

    Args:
        model: The model's name.
        file: An .npz with the arrays `images` and `targets`, and perhaps `labels`; or a folder of
            images, FOLDER/CLASS/* or FOLDER/test/CLASS/*, each class named as its label. It wins.
        data: The folder of the dataset, for the one that an installed package provides.
        manifest: The model's, which says how the images of a folder are read.

    Returns:
        The set; None if no package provides one for that model.

    Raises:
        FolderError: The folder holds no images, or one cannot be read.
        HoldoutError: It cannot be read, or is not valid.
        ServableError: The package that provides it cannot get it.
    """
    if file is not None and file.is_dir():
        return _from_folder(file, manifest)
    if file is not None:
        return _from_file(file)
    for point in entry_points(group=GROUP, name=model):
        try:
            images, targets, labels = point.load()(data)
        except ImportError as error:
            raise HoldoutError(
                f"the held-out set for {model} cannot be loaded: {error}",
                hint=f"{how_to_install('trainer')}; or name one with --holdout FILE.npz",
            ) from error
        return _checked(f"{model}'s held-out set", images, targets, labels)
    return None


def _from_file(file: Path) -> Holdout:
    try:
        arrays = read_arrays(file)
        images, targets = arrays["images"], arrays["targets"]
        labels = [str(label) for label in arrays.get("labels", ())]
    except KeyError as error:
        raise HoldoutError(
            f"{file} has no array {error.args[0]!r}",
            hint="np.savez(FILE, images=..., targets=...) writes one",
        ) from None
    except (OSError, ValueError, TypeError) as error:
        reason = getattr(error, "strerror", None) or "it is not an .npz file"
        raise HoldoutError(
            f"cannot read {file}: {reason}", hint="np.savez(FILE, images=..., targets=...)"
        ) from error
    return _checked(str(file), images, targets, labels)


def _from_folder(folder: Path, manifest: Mapping[str, Any] | None) -> Holdout:
    import_tensorflow_runtime()
    from servable_serving.model.image_folder import read_folder

    if manifest is None:
        raise HoldoutError(
            f"{folder} is a folder, and the size of the images is not known",
            hint="give an .npz file",
        )
    shape = manifest["signatures"][DEFAULT_SIGNATURE]["inputs"]["image"]["shape"][1:]
    found = read_folder(
        folder,
        tuple(shape),
        part="test",
        invert=bool(manifest.get("inverts_light_borders", len(shape) == _GREY_RANK)),
    )
    if found.targets is None:
        raise HoldoutError(
            f"{folder} holds images without their classes",
            hint="give a folder with a subfolder for each class, named as its label",
        )
    return _checked(str(folder), found.images, found.targets, found.classes)


def _checked(source: str, images: Any, targets: Any, labels: Any) -> Holdout:
    import numpy as np

    valid = images.dtype == np.uint8 and (
        images.ndim == 3 or (images.ndim == 4 and images.shape[3] == 3)
    )
    if not valid:
        raise HoldoutError(
            f"{source} has images of {images.dtype} {list(images.shape)}, and they must be uint8 "
            "[N, height, width] or [N, height, width, 3]"
        )
    if targets.dtype.kind not in "iu" or targets.shape != images.shape[:1]:
        raise HoldoutError(
            f"{source} has targets of {targets.dtype} {list(targets.shape)}, and they must be "
            f"integers [{len(images)}], one for each of the images"
        )
    if not len(images):
        raise HoldoutError(f"{source} holds no images")
    if targets.min() < 0 or (len(labels) and targets.max() >= len(labels)):
        raise HoldoutError(
            f"{source} has class numbers from {targets.min()} to {targets.max()}"
            + (f", and {len(labels)} labels" if len(labels) else "")
        )
    return Holdout(
        source=source,
        images=images,
        targets=targets.astype(np.int64),
        labels=tuple(map(str, labels)),
    )
