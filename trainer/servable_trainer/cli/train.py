"""`servable train`."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from servable_client.cli.options import Json
from servable_serving.core.imports import collection_paused
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
    """Precision of a training."""

    AUTO = "auto"
    FLOAT32 = "float32"
    MIXED_BFLOAT16 = "mixed_bfloat16"


def train(
    output: Annotated[Path, typer.Option(help="New directory for the run.")] = Path("build/run"),
    recipe: Annotated[
        str, typer.Option(help="Recipe: baseline, resnet, or mobilenet (transfer learning).")
    ] = "baseline",
    hyperparameters: Annotated[
        Path | None,
        typer.Option(help="trials.json of a search, or a JSON object of changes to the recipe."),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Number of epochs; default: the recipe's.")
    ] = None,
    start_from: Annotated[Path | None, typer.Option(help="Run to fine-tune from.")] = None,
    all_data: Annotated[
        bool, typer.Option("--all-data", help="Train on the validation images too.")
    ] = False,
    validation_share: Annotated[
        float,
        typer.Option(min=0.001, max=0.9, help="Share of the training images used for validation."),
    ] = 1 / 6,
    weights: Annotated[
        str | None, typer.Option(help="Pretrained weights for mobilenet: imagenet, or a file.")
    ] = None,
    distill: Annotated[
        Path | None,
        typer.Option(metavar="TEACHER", help="Teacher model for knowledge distillation."),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(min=1, help="Early-stopping patience in epochs."),
    ] = None,
    precision: Annotated[
        Precision,
        typer.Option(help="Precision; auto is mixed_bfloat16 if the processor supports it."),
    ] = Precision.AUTO,
    tensorboard: Annotated[
        Path | None, typer.Option(help="Directory for TensorBoard logs.")
    ] = None,
    calibrate: Annotated[
        bool,
        typer.Option(
            "--calibrate/--no-calibrate",
            help="Calibrate the probabilities on the validation images (temperature scaling).",
        ),
    ] = True,
    restart: Annotated[
        bool, typer.Option("--restart", help="Discard an interrupted training.")
    ] = False,
    seed: Seed = 0,
    data: Data = None,
    folder: Folder = None,
    size: Size = None,
    channels: Channels = None,
    skip_corrupt: SkipCorrupt = False,
    json: Json = False,
) -> None:
    """Train a network; an interrupted training resumes after its last finished epoch."""
    from dataclasses import asdict

    from servable_client.cli.console import print_json, say

    if hyperparameters and start_from:
        raise typer.BadParameter(
            "conflicts with --start-from, whose run has its own", param_hint="--hyperparameters"
        )
    if all_data and patience:
        raise typer.BadParameter(
            "conflicts with --all-data, which leaves nothing to validate on",
            param_hint="--patience",
        )
    # Imported late, so that usage errors and missing data are reported at once.
    quiet_tensorflow()
    from servable_trainer.tuning.trials import load_hyperparameters

    values = load_hyperparameters(hyperparameters) if hyperparameters else None
    dataset = find_dataset(
        data, folder, size=size, channels=channels, skip_corrupt=skip_corrupt, like=start_from
    )
    with collection_paused():
        from servable_trainer.evaluation.teacher import teach
        from servable_trainer.training.train import train as fit

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
        say(f"run written to {output}; next: servable evaluate {output}")
