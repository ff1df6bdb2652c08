"""Folders of class subfolders: which files in them are pictures, and of what.

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

# The parts of a folder: two that came divided, or one that did not.
TRAIN, TEST, UNDIVIDED = "train", "test", "pictures"

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".gif", ".bmp", ".webp"})

# One to fit and one to validate with; one to test with; or all three.
_AT_LEAST = {TRAIN: 2, TEST: 1, UNDIVIDED: 3}
# What systems leave in folders of pictures, which nobody needs to be told of.
_LITTER = frozenset({"thumbs.db", "desktop.ini", "__macosx"})
_NAMED = 10


@dataclass(frozen=True, kw_only=True)
class PictureFile:
    """A file, and what its place says of it.

    Attributes:
        path: The file.
        part: TRAIN, TEST or UNDIVIDED.
        label: The name of its class's folder.
    """

    path: Path
    part: str
    label: str


def scan(folder: Path) -> tuple[list[str], list[PictureFile]]:
    """Find the pictures of a folder by their suffix, and say what was passed over.

    Links are followed; what is hidden is not looked at.

    Returns:
        The names of the class folders, sorted, and the pictures, sorted too.

    Raises:
        DatasetError: It cannot be read, or holds no classes that can be told apart.
    """
    if not folder.is_dir():
        what = "is no folder" if folder.exists() else "does not exist"
        raise DatasetError(f"{shown(folder)} {what}", hint="name a folder of class subfolders")
    roots = _roots(folder)
    labels: dict[str, set[str]] = {}
    files: list[PictureFile] = []
    others: list[str] = []
    for part, root in roots.items():
        entries = _entries(root)
        labels[part] = {path.name for path in entries if path.is_dir()}
        others += [path.name for path in entries if not path.is_dir()]
        for name in sorted(labels[part]):
            for path in _entries(root / name):
                if _is_picture(path):
                    files.append(PictureFile(path=path, part=part, label=name))
                else:
                    others.append(f"{name}/{path.name}")
    if others:
        say(f"passed over what is no picture in a class's folder: {some(others)}")
    found = sorted(set().union(*labels.values()))
    for part, names in labels.items():
        if missing := set(found) - names:
            raise DatasetError(
                f"{shown(folder / part)} has no folder for {some(sorted(missing))}, which the "
                "other part has",
                hint=f"{TRAIN} and {TEST} hold the same classes",
            )
    _check_labels(folder, found, any_picture=bool(others))
    return found, files


def check_counts(folder: Path, labels: list[str], files: list[PictureFile]) -> None:
    """Refuse classes of too few pictures.

    Raises:
        DatasetError: There are such.
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
            f"{_AT_LEAST[TRAIN]} pictures in {TRAIN} and {_AT_LEAST[TEST]} in {TEST}"
            if divided
            else f"{_AT_LEAST[UNDIVIDED]} different pictures"
        )
        raise DatasetError(
            f"{shown(folder)} has too few pictures of some classes: {some(few)}",
            hint=f"each class needs at least {needs}: add some, or remove its folder",
        )


def _roots(folder: Path) -> dict[str, Path]:
    """The folder that holds the class folders of each part."""
    entries = _entries(folder)
    names = {path.name for path in entries if path.is_dir()}
    # "train" may be a class too, of vehicles: then it holds pictures.
    if not (TRAIN in names and _holds_classes(folder / TRAIN)):
        return {UNDIVIDED: folder}
    if TEST not in names:
        raise DatasetError(
            f"{shown(folder)} holds {TRAIN} and no {TEST}",
            hint=f"name {shown(folder / TRAIN)} and test pictures are set aside, or add {TEST}",
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


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.is_dir()


def _holds_classes(folder: Path) -> bool:
    inside = _entries(folder)
    return any(p.is_dir() for p in inside) and not any(_is_picture(p) for p in inside)


def _check_labels(folder: Path, labels: list[str], *, any_picture: bool) -> None:
    hint = "make a subfolder for each class, with its pictures in it"
    if not labels:
        what = "no class subfolders" if any_picture else "nothing"
        raise DatasetError(f"{shown(folder)} holds {what}", hint=hint)
    for label in labels:
        try:
            label.encode()
        except UnicodeEncodeError:
            raise DatasetError(
                f"the class folder {os.fsencode(label)!r} has a name that is no UTF-8",
                hint="rename it: its name is the label that the model answers",
            ) from None
        if not label.isprintable():
            raise DatasetError(
                f"the class folder {label!r} has control characters in its name",
                hint="rename it: its name is the label that the model answers",
            )
    if len(labels) == 1:
        raise DatasetError(f"{shown(folder)} holds one class only, {labels[0]}", hint=hint)
    # Told apart by this file system, and not by the next one, nor by people.
    alike: dict[str, str] = {}
    for label in labels:
        other = alike.setdefault(unicodedata.normalize("NFKC", label).casefold(), label)
        if other != label:
            raise DatasetError(
                f"the class folders {other} and {label} differ in case or spelling only",
                hint="put their pictures together, or rename one",
            )


def some(names: Iterable[str]) -> str:
    """The first ten of some names, and how many more there are."""
    names = list(names)
    first = ", ".join(_printable(name) for name in names[:_NAMED])
    rest = len(names) - _NAMED
    return f"{first} and {rest:,} more" if rest > 0 else first


def shown(path: Path) -> str:
    """A path that can be printed, whatever bytes are in it."""
    return _printable(str(path))


def _printable(name: str) -> str:
    return os.fsencode(name).decode(errors="backslashreplace")
