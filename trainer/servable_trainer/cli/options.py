"""Options that several commands share."""

from __future__ import annotations

import enum
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from servable_client.cli.options import usage_error
from servable_serving.core.imports import collection_paused
from servable_serving.core.lazy_tensorflow import quiet_tensorflow

if TYPE_CHECKING:
    from collections.abc import Callable

    from servable_trainer.data.dataset import Dataset
    from servable_trainer.data.own_data import OwnData
    from servable_trainer.networks.own_network import OwnNetwork

# As servable_serving.exporter.input_range names them, which needs NumPy.
RANGES = ("0..1", "-1..1", "0..255", "caffe", "torch")
# As servable_trainer.networks.recipes and servable_trainer.comparison.classic name them, which need
# Keras and scikit-learn.
RecipeName = Literal["baseline", "resnet", "mobilenet"]


class MethodName(enum.StrEnum):
    """A classic method."""

    LOGISTIC_REGRESSION = "logistic-regression"
    LINEAR_SVM = "linear-svm"
    RANDOM_FOREST = "random-forest"
    BOOSTING = "boosting"
    K_NEAREST = "k-nearest"
    RBF_SVM = "rbf-svm"


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
CustomObjects = Annotated[
    str | None,
    typer.Option(
        metavar="MODULE", help="Python module that defines the layers or functions of a model."
    ),
]
Destination = Annotated[
    str | None,
    typer.Option(
        "--repository",
        metavar="DIR|URL",
        help="Repository that `servable push` will be given; checked now for whether this user "
        "can write to it.",
    ),
]
SkipCorrupt = Annotated[
    bool, typer.Option("--skip-corrupt", help="Skip images that cannot be read.")
]


_OWN = "A network of your own"
OwnModel = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="MODULE:NAME",
        help="Function build(hp) or keras_tuner.HyperModel of your own, in place of our network.",
        rich_help_panel=_OWN,
    ),
]
DataFrom = Annotated[
    str | None,
    typer.Option(
        metavar="MODULE:FUNCTION",
        help="Function that returns (x, y) for --model, or two of these, for training and "
        "validation; default: images.",
        rich_help_panel=_OWN,
    ),
]
BatchSize = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Examples per step of --model, unless its fit is overridden; default: 32.",
        show_default=False,
        rich_help_panel=_OWN,
    ),
]
OwnRange = Annotated[
    str | None,
    typer.Option(
        "--input-range",
        metavar="|".join(RANGES),
        help="Input range that images are converted to for --model; default: 0..255 if it scales "
        "pixels itself, else 0..1.",
        rich_help_panel=_OWN,
    ),
]


def check_own(
    model: str | None, data_from: str | None, batch_size: int | None, input_range: str | None
) -> None:
    """Refuse options of a network of a user's own that do not go together."""
    for flag, place in (("--model", model), ("--data-from", data_from)):
        if place is not None:
            check_place(place, flag)
    if model is None:
        for flag, given in (
            ("--data-from", data_from), ("--batch-size", batch_size), ("--input-range", input_range)
        ):  # fmt: skip
            if given is not None:
                raise typer.BadParameter("requires --model", param_hint=flag)
    if data_from is not None and input_range is not None:
        raise typer.BadParameter("conflicts with --data-from", param_hint="--input-range")
    if input_range is not None and input_range not in RANGES:
        raise typer.BadParameter(
            f"{input_range!r} is not a valid input range ({', '.join(RANGES)})",
            param_hint="--input-range",
        )


def command_line(*words: object, **options: object) -> str:
    """A command of `servable` that a user can copy into a shell.

    Args:
        words: The sub-command and its arguments.
        options: Options by name; those that are None or False are left out.
    """
    given = [str(word) for word in words]
    for name, value in options.items():
        if value is not None and value is not False:
            given.append(f"--{name.replace('_', '-')}")
            given += [] if value is True else [str(value)]
    return shlex.join(["servable", *given])


def check_destination(repository: str | None) -> None:
    """Check that a later push could write; an invalid URL is a usage error."""
    from servable_client import InvalidInput
    from servable_serving.release.destination import check_destination as check

    if repository is None:
        return
    try:
        check(repository)
    except InvalidInput as error:
        raise usage_error(error, param_hint="--repository") from None


def check_place(text: str, option: str) -> None:
    """Refuse what is not MODULE:NAME, before anything is imported."""
    module, _, name = text.partition(":")
    if not (module and name):
        raise typer.BadParameter(
            f"{text!r} is not MODULE:NAME, for example my_package.mine:NAME", param_hint=option
        )


def find_own(
    model: str | None, data_from: str | None, batch_size: int | None, find: Callable[[], Dataset]
) -> tuple[OwnNetwork | None, Dataset | OwnData]:
    """The network of a user's own, if one was given, and the data.

    Args:
        model: MODULE:NAME of the network.
        data_from: MODULE:FUNCTION of data.
        batch_size: Examples per step.
        find: Loads the images if no other data is given.
    """
    if model is None:
        return None, find()
    quiet_tensorflow()
    with collection_paused():
        from servable_trainer.data.own_data import own_data
        from servable_trainer.networks.own_network import OwnNetwork

    network = OwnNetwork.named(model, batch_size=batch_size)
    return network, find() if data_from is None else own_data(data_from)


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
