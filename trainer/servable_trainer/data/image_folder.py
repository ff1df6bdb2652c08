"""A directory with a subdirectory of images per class, as a dataset."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter, defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from servable_client.cli.console import say
from servable_serving.core.json_text import parse_json
from servable_serving.repository.manifest import MANIFEST
from servable_trainer.data.class_folders import (
    TEST,
    TRAIN,
    UNDIVIDED,
    ImageFile,
    check_counts,
    scan,
    shown,
    some,
)
from servable_trainer.data.dataset import Dataset, DatasetError, Pictures
from servable_trainer.data.image_files import Refusal, available_memory, has_colour, headers, read

if TYPE_CHECKING:
    from pathlib import Path

# Test share of an undivided directory.
TEST_SHARE = 1 / 5

# The smallest that a network with three stages can take, and the largest that two cores can train
# on in reasonable time; larger images must be requested.
MIN_SIDE, MAX_SIDE = 8, 128

# The array itself, its split into training and validation, and the copy that Keras makes.
_COPIES = 3


def load(
    folder: Path,
    *,
    size: tuple[int, ...] | None = None,
    channels: int | None = None,
    skip_corrupt: bool = False,
) -> Dataset:
    """Read a directory of images.

    The files are PNG, JPEG, GIF, BMP or WebP, preprocessed as the exported model does: rotated by
    their Exif data, centred and resized. If the directory is not divided into train and test, a
    fifth of each class is set aside by the images' content: the same files are split in the same
    way with any seed, so that no run is tested on images that another was trained on.

    Args:
        folder: The directory of train/CLASS/* and test/CLASS/*, or of CLASS/*.
        size: Height and width to resize to. Default: the size that at least half of them have, or
            else a square, with sides of at most 128 pixels.
        channels: 1 for grey, 3 for colour; default: grey if no pixel has colour.
        skip_corrupt: Skip images that cannot be read.

    Returns:
        The images, uint8 [N, height, width] or [N, height, width, 3], in an order that is
        independent of their class. The labels are the sorted names of the class subdirectories; the
        checksums are of the paths and contents of each part.

    Raises:
        DatasetError: It cannot be read, has fewer than two classes or too few images of one, has
            images that cannot be read, or would not fit into memory.
    """
    labels, files = scan(folder)
    check_counts(folder, labels, files)
    shape = _shape([file.path for file in files], size, channels)
    _check_memory(folder, len(files), shape)
    images, outcomes = read([file.path for file in files], shape)

    refused = [
        f"{file.path.relative_to(folder)} {outcome.reason}"
        for file, outcome in zip(files, outcomes, strict=True)
        if isinstance(outcome, Refusal)
    ]
    if refused:
        what = f"{len(refused):,} of {len(files):,} images in {shown(folder)} cannot be read"
        if not skip_corrupt:
            raise DatasetError(
                f"{what}: {some(refused)}",
                hint="repair or remove them, or skip them with --skip-corrupt",
            )
        say(f"skipped {what}: {some(refused)}")
    good = [index for index, outcome in enumerate(outcomes) if isinstance(outcome, bytes)]
    files = [files[index] for index in good]
    contents = [outcome for outcome in outcomes if isinstance(outcome, bytes)]
    sums = _checksums(folder, files, contents)
    files = _divided(files, contents)
    check_counts(folder, labels, files)
    _report_copies(files, contents)
    numbers = {label: number for number, label in enumerate(labels)}

    def pictures(part: str) -> Pictures:
        # By content, so that the first ones are of every class.
        members = sorted((contents[i], i) for i, file in enumerate(files) if file.part == part)
        return Pictures(
            images=images[[good[i] for _, i in members]],
            targets=np.array([numbers[files[i].label] for _, i in members], np.int64),
        )

    return Dataset(
        name=_name(folder),
        labels=tuple(labels),
        train=pictures(TRAIN),
        test=pictures(TEST),
        checksums=sums,
    )


def shape_of(what: Path) -> tuple[int, ...] | None:
    """Height and width, and 3 for colour, of the input of a run or a candidate.

    None if it is neither, which the next reader reports.
    """
    try:
        if (what / "run.json").is_file():
            shape = parse_json((what / "run.json").read_text())["size"]
        else:
            signatures = parse_json((what / MANIFEST).read_text())["signatures"]
            shape = signatures["serving_default"]["inputs"]["image"]["shape"][1:]
        height, width, *colour = map(int, shape)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return (height, width, *colour)


def _shape(
    paths: list[Path], size: tuple[int, ...] | None, channels: int | None
) -> tuple[int, ...]:
    """Determine the shape to resize images to, and report it."""
    if size and channels:
        return size if channels == 1 else (*size, channels)
    found = headers(paths)
    why = "as given"
    if size is None:
        size, why = _usual_size([(header.height, header.width) for header in found if header])
    if channels is None:
        # Stops at the first image with colour.
        coloured = any(
            header is not None and not header.grey and has_colour(path)
            for path, header in zip(paths, found, strict=True)
        )
        channels = 3 if coloured else 1
    say(
        f"{len(paths):,} images are resized to --size {size[0]}x{size[1]} (height x width, {why}) "
        f"--channels {channels} ({'grey' if channels == 1 else 'colour'})"
    )
    return size if channels == 1 else (*size, channels)


def _usual_size(sizes: list[tuple[int, int]]) -> tuple[tuple[int, int], str]:
    """The size to resize images to, and why."""
    if not sizes:
        return (MIN_SIDE, MIN_SIDE), "as none can be read"
    (height, width), count = max(Counter(sizes).items(), key=lambda item: (item[1], item[0]))
    why = "the most common"
    if 2 * count < len(sizes):
        height = width = sorted(max(size) for size in sizes)[len(sizes) // 2]
        why = "a square, since sizes differ"
    longest = max(height, width)
    if longest > MAX_SIDE:
        why += f", shrunk from {longest} to {MAX_SIDE}"
    scale = min(MAX_SIDE / longest, 1)
    return (max(round(height * scale), MIN_SIDE), max(round(width * scale), MIN_SIDE)), why


def _check_memory(folder: Path, count: int, shape: tuple[int, ...]) -> None:
    needed = _COPIES * count * int(np.prod(shape))
    free = available_memory()
    if free is not None and needed > free:
        raise DatasetError(
            f"{shown(folder)} does not fit into memory: {count:,} images of "
            f"{' x '.join(map(str, shape))} take {needed / 1e9:,.1f} GB "
            f"to train on, and {free / 1e9:,.1f} GB are available",
            hint="use a smaller --size, or --channels 1",
        )


def _divided(files: list[ImageFile], contents: list[bytes]) -> list[ImageFile]:
    """The same files, each in TRAIN or TEST."""
    if not any(file.part == UNDIVIDED for file in files):
        return files
    of_class = defaultdict(set)
    for file, content in zip(files, contents, strict=True):
        of_class[file.label].add(content)
    # Copies of an image are in the same part. SHA-256 is as good as a shuffle.
    tested = {
        label: set(sorted(its)[: max(round(TEST_SHARE * len(its)), 1)])
        for label, its in of_class.items()
    }
    return [
        replace(file, part=TEST if content in tested[file.label] else TRAIN)
        for file, content in zip(files, contents, strict=True)
    ]


def _report_copies(files: list[ImageFile], contents: list[bytes]) -> None:
    """Report duplicate images that distort the evaluation."""
    labels, parts = defaultdict(set), defaultdict(set)
    for file, content in zip(files, contents, strict=True):
        labels[content].add(file.label)
        parts[content].add(file.part)
    several, both = (
        [
            f"{file.label}/{file.path.name}"
            for file, content in zip(files, contents, strict=True)
            if file.part in where and len(found[content]) > 1
        ]
        for found, where in ((labels, (TRAIN, TEST)), (parts, (TEST,)))
    )
    if several:
        say(f"the same image is in several classes, of which one must be wrong: {some(several)}")
    if both:
        say(f"the same image is in {TRAIN} and {TEST}, which invalidates its test: {some(both)}")


def _name(folder: Path) -> str:
    """A valid model name, derived from the directory's."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", folder.resolve().name).lstrip(".-")[:128] or "pictures"


def _checksums(folder: Path, files: list[ImageFile], contents: list[bytes]) -> dict[str, str]:
    """SHA-256 over the paths and contents of each part's files, in their order."""
    sums = {}
    for part in sorted({file.part for file in files}):
        digest = hashlib.sha256()
        for file, content in zip(files, contents, strict=True):
            if file.part == part:
                path = os.fsencode(file.path.relative_to(folder).as_posix())
                digest.update(hashlib.sha256(path).digest() + content)
        sums[part] = digest.hexdigest()
    return sums
