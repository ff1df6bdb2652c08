"""Options that several commands share."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from servable_serving.core.lazy_tensorflow import quiet_tensorflow

if TYPE_CHECKING:
    from servable_trainer.data.dataset import Dataset

Data = Annotated[
    Path | None,
    typer.Option(help="Fashion-MNIST directory; default: SERVABLE_DATA, or the usual places."),
]
Seed = Annotated[
    int,
    typer.Option(
        help="Random seed; the same seed gives the same result on one machine.",
        min=0,
        max=(1 << 32) - 1,
    ),
]
Directory = Annotated[
    Path, typer.Argument(metavar="RUN", help="Run directory, written by `servable train`.")
]


Folder = Annotated[
    Path | None,
    typer.Option(
        "--dataset",
        metavar="DIR",
        help="Images of your own: DIR/CLASS/*, or DIR/train/CLASS/* and DIR/test/CLASS/*.",
    ),
]
Size = Annotated[
    str | None,
    typer.Option(
        metavar="HxW|N", help="Image size for --dataset; default: determined from the images."
    ),
]
Channels = Annotated[
    int | None,
    typer.Option(metavar="1|3", help="Grey or colour; default: determined from the images."),
]
SkipCorrupt = Annotated[
    bool, typer.Option("--skip-corrupt", help="Skip images that cannot be read.")
]


def find_dataset(
    data: Path | None,
    folder: Path | None,
    *,
    size: str | None = None,
    channels: int | None = None,
    skip_corrupt: bool = False,
    like: Path | None = None,
) -> Dataset:
    """Load the dataset that a command was given.

    Args:
        data: Fashion-MNIST's directory.
        folder: A directory of images to use instead.
        size: The size to resize these to, as it was typed.
        channels: 1 or 3, likewise.
        skip_corrupt: Skip those of them that cannot be read.
        like: A run or candidate whose size and channels are the default.
    """
    if folder is None:
        for flag, given in (
            ("--size", size), ("--channels", channels), ("--skip-corrupt", skip_corrupt)
        ):  # fmt: skip
            if given:
                raise typer.BadParameter("requires --dataset", param_hint=flag)
        from servable_trainer.data.fashion_mnist import find

        return find(data)[1]
    if data is not None:
        raise typer.BadParameter("conflicts with --dataset", param_hint="--data")
    if not folder.is_dir():
        what = "is not a directory" if folder.exists() else "does not exist"
        raise typer.BadParameter(
            f"{folder} {what}; expected one with a subdirectory of images per class",
            param_hint="--dataset",
        )
    if channels not in (None, 1, 3):
        raise typer.BadParameter("must be 1 (grey) or 3 (colour)", param_hint="--channels")
    asked: tuple[int, ...] | None = parse_size(size) if size is not None else None
    quiet_tensorflow()
    from servable_trainer.data.image_folder import load, shape_of

    if like is not None and (shape := shape_of(like)):
        asked = asked or shape[:2]
        channels = channels or (1 if len(shape) == 2 else shape[2])
    return load(folder, size=asked, channels=channels, skip_corrupt=skip_corrupt)


def parse_size(text: str) -> tuple[int, int]:
    """Height and width as they are typed, HEIGHTxWIDTH or SIDE in pixels."""
    found = re.fullmatch(r"(\d{1,5})(?:[xX×](\d{1,5}))?", text)  # noqa: RUF001
    height, width = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not (8 <= height <= 1024 and 8 <= width <= 1024):
        raise typer.BadParameter(
            f"{text!r} is not a valid size (HEIGHTxWIDTH or SIDE, 8 to 1024 pixels, e.g. 48x64)",
            param_hint="--size",
        )
    return height, width
