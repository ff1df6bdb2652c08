"""Directories with a subdirectory per class: which files are images, and of which class.

Either DIR/train/CLASS/* with DIR/test/CLASS/*, or DIR/CLASS/* alone.
"""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from servable_client.cli.console import say
from servable_trainer.data.dataset import DatasetError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

# The parts of a dataset: two of a divided one, or one of an undivided one.
TRAIN, TEST, UNDIVIDED = "train", "test", "pictures"

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".gif", ".bmp", ".webp"})

# One image to train on and one to validate on; one to test on; or all three.
_AT_LEAST = {TRAIN: 2, TEST: 1, UNDIVIDED: 3}
# Files that systems leave in directories of images; skipped silently.
_LITTER = frozenset({"thumbs.db", "desktop.ini", "__macosx"})
_NAMED = 10


@dataclass(frozen=True, kw_only=True)
class ImageFile:
    """An image file, with its part and label from its path.

    Attributes:
        path: The file.
        part: TRAIN, TEST or UNDIVIDED.
        label: The name of its class.
    """

    path: Path
    part: str
    label: str


def scan(folder: Path) -> tuple[list[str], list[ImageFile]]:
    """Find the images of a directory by their suffix, and report other files.

    Links are followed; hidden files are ignored.

    Returns:
        The class names and the images, both sorted.

    Raises:
        DatasetError: It cannot be read, or does not hold at least two valid classes.
    """
    if not folder.is_dir():
        what = "is not a directory" if folder.exists() else "does not exist"
        raise DatasetError(
            f"{shown(folder)} {what}", hint="expected a directory with a subdirectory per class"
        )
    roots = _roots(folder)
    labels: dict[str, set[str]] = {}
    files: list[ImageFile] = []
    others: list[str] = []
    for part, root in roots.items():
        entries = _entries(root)
        labels[part] = {path.name for path in entries if path.is_dir()}
        others += [path.name for path in entries if not path.is_dir()]
        for name in sorted(labels[part]):
            for path in _entries(root / name):
                if _is_image(path):
                    files.append(ImageFile(path=path, part=part, label=name))
                else:
                    others.append(f"{name}/{path.name}")
    if others:
        say(f"skipped files that are not images of a class: {some(others)}")
    found = sorted(set().union(*labels.values()))
    for part, names in labels.items():
        if missing := set(found) - names:
            raise DatasetError(
                f"{shown(folder / part)} has no subdirectory for {some(sorted(missing))}, unlike "
                "the other part",
                hint=f"{TRAIN} and {TEST} must have the same classes",
            )
    _check_labels(folder, found, any_image=bool(others))
    return found, files


def check_counts(folder: Path, labels: list[str], files: list[ImageFile]) -> None:
    """Check that each class has enough images.

    Raises:
        DatasetError: One has too few.
    """
    counts = Counter((file.part, file.label) for file in files)
    divided = any(file.part != UNDIVIDED for file in files)
    parts = (TRAIN, TEST) if divided else (UNDIVIDED,)
    few = [
        f"{label} {counts[part, label]}" + ("" if part == UNDIVIDED else f" in {part}")
        for part in parts
        for label in labels
        if counts[part, label] < _AT_LEAST[part]
    ]
    if few:
        needs = (
            f"{_AT_LEAST[TRAIN]} images in {TRAIN} and {_AT_LEAST[TEST]} in {TEST}"
            if divided
            else f"{_AT_LEAST[UNDIVIDED]} different images"
        )
        raise DatasetError(
            f"{shown(folder)} has too few images of some classes: {some(few)}",
            hint=f"each class needs at least {needs}: add some, or remove its subdirectory",
        )


def _roots(folder: Path) -> dict[str, Path]:
    """The parent of the class subdirectories of each part."""
    entries = _entries(folder)
    names = {path.name for path in entries if path.is_dir()}
    # "train" may also be a class, of vehicles: then it holds images.
    if not (TRAIN in names and _holds_classes(folder / TRAIN)):
        return {UNDIVIDED: folder}
    if TEST not in names:
        raise DatasetError(
            f"{shown(folder)} has {TRAIN} but no {TEST}",
            hint=f"use {shown(folder / TRAIN)} to have test images set aside, or add {TEST}",
        )
    return {TRAIN: folder / TRAIN, TEST: folder / TEST}


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(
            path
            for path in folder.iterdir()
            if not path.name.startswith(".") and path.name.lower() not in _LITTER
        )
    except OSError as error:
        raise DatasetError(f"cannot read {shown(folder)}: {error.strerror}") from error


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.is_dir()


def _holds_classes(folder: Path) -> bool:
    inside = _entries(folder)
    return any(p.is_dir() for p in inside) and not any(_is_image(p) for p in inside)


def _check_labels(folder: Path, labels: list[str], *, any_image: bool) -> None:
    hint = "create a subdirectory for each class, with its images in it"
    if not labels:
        what = "has no class subdirectories" if any_image else "is empty"
        raise DatasetError(f"{shown(folder)} {what}", hint=hint)
    for label in labels:
        try:
            label.encode()
        except UnicodeEncodeError:
            raise DatasetError(
                f"the class name {os.fsencode(label)!r} is not valid UTF-8",
                hint="rename the subdirectory: its name is the label that the model returns",
            ) from None
        if not label.isprintable():
            raise DatasetError(
                f"the class name {label!r} has control characters",
                hint="rename the subdirectory: its name is the label that the model returns",
            )
    if len(labels) == 1:
        raise DatasetError(f"{shown(folder)} has only one class, {labels[0]}", hint=hint)
    # Distinct in this file system, but not in every other, nor to people.
    alike: dict[str, str] = {}
    for label in labels:
        other = alike.setdefault(unicodedata.normalize("NFKC", label).casefold(), label)
        if other != label:
            raise DatasetError(
                f"the class names {other} and {label} differ only in case or Unicode form",
                hint="merge or rename them",
            )


def some(names: Iterable[str]) -> str:
    """The first ten of some names, and the number of the others."""
    names = list(names)
    first = ", ".join(_printable(name) for name in names[:_NAMED])
    rest = len(names) - _NAMED
    return f"{first} and {rest:,} more" if rest > 0 else first


def shown(path: Path) -> str:
    """A path in printable form, even if it is not valid UTF-8."""
    return _printable(str(path))


def _printable(name: str) -> str:
    return os.fsencode(name).decode(errors="backslashreplace")
