"""`servable train`."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from servable_client.cli.options import Json
from servable_serving.core.lazy_tensorflow import quiet_tensorflow
from servable_trainer.cli.options import (
    Channels,
    Data,
    Folder,
    Seed,
    Size,
    SkipCorrupt,
    find_dataset,
)


class Precision(enum.StrEnum):
    """What a network can learn in."""

    AUTO = "auto"
    FLOAT32 = "float32"
    MIXED_BFLOAT16 = "mixed_bfloat16"


def train(
    output: Annotated[Path, typer.Option(help="A new folder for the run.")] = Path("build/run"),
    recipe: Annotated[
        str, typer.Option(help="baseline, resnet, or mobilenet (which transfers).")
    ] = "baseline",
    hyperparameters: Annotated[
        Path | None,
        typer.Option(help="What tune wrote, or a JSON object: what to change of the recipe."),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="How often each picture is seen; else the recipe's.")
    ] = None,
    start_from: Annotated[
        Path | None, typer.Option(help="A run to go on with, in place of a new network.")
    ] = None,
    all_data: Annotated[
        bool, typer.Option("--all-data", help="Learn from the validation pictures too.")
    ] = False,
    validation_share: Annotated[
        float,
        typer.Option(min=0.001, max=0.9, help="Share of the training pictures to validate with."),
    ] = 1 / 6,
    weights: Annotated[
        str | None, typer.Option(help="imagenet, or a file of weights, for mobilenet.")
    ] = None,
    distill: Annotated[
        Path | None,
        typer.Option(metavar="TEACHER", help="A run or candidate to learn the answers of, too."),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(min=1, help="End after as many epochs without a lower validation loss."),
    ] = None,
    precision: Annotated[
        Precision, typer.Option(help="auto: mixed_bfloat16 where the processor has it.")
    ] = Precision.AUTO,
    tensorboard: Annotated[
        Path | None, typer.Option(help="A folder for TensorBoard's logs.")
    ] = None,
    calibrate: Annotated[
        bool,
        typer.Option(
            "--calibrate/--no-calibrate",
            help="Fit a temperature to validation pictures: 0.9 is then right 9 times in 10.",
        ),
    ] = True,
    restart: Annotated[
        bool, typer.Option("--restart", help="Begin anew what was broken off.")
    ] = False,
    seed: Seed = 0,
    data: Data = None,
    folder: Folder = None,
    size: Size = None,
    channels: Channels = None,
    skip_corrupt: SkipCorrupt = False,
    json: Json = False,
) -> None:
    """Train a network; what was broken off goes on after its last whole epoch."""
    from dataclasses import asdict

    from servable_client.cli.console import print_json, say

    quiet_tensorflow()
    from servable_trainer.evaluation.teacher import teach
    from servable_trainer.training.train import train as fit
    from servable_trainer.tuning.trials import load_hyperparameters

    if hyperparameters and start_from:
        raise typer.BadParameter(
            "the run that it starts from has its own", param_hint="--hyperparameters"
        )
    if all_data and patience:
        raise typer.BadParameter("nothing is left to validate with", param_hint="--patience")
    values = load_hyperparameters(hyperparameters) if hyperparameters else None
    dataset = find_dataset(
        data, folder, size=size, channels=channels, skip_corrupt=skip_corrupt, like=start_from
    )
    run = fit(
        dataset,
        directory=output,
        recipe=recipe,
        hyperparameters=values,
        epochs=epochs,
        seed=seed,
        start_from=start_from,
        all_data=all_data,
        validation=validation_share,
        weights=weights,
        teacher=teach(distill, dataset) if distill else None,
        patience=patience,
        precision=precision.value,
        tensorboard=tensorboard,
        calibrate=calibrate,
        restart=restart,
    )
    if json:
        print_json(asdict(run))
    else:
        say(f"the run is in {output}; next: servable evaluate {output}")
