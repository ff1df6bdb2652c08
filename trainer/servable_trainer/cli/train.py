"""`servable train`."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated, Any

import typer

from servable_client.cli.options import Json
from servable_serving.core.imports import collection_paused
from servable_serving.core.lazy_tensorflow import quiet_tensorflow
from servable_trainer.cli.options import (
    BatchSize,
    Channels,
    Data,
    DataFrom,
    Destination,
    Folder,
    OwnModel,
    OwnRange,
    RecipeName,
    Seed,
    Size,
    SkipCorrupt,
    check_destination,
    check_own,
    command_line,
    find_dataset,
    find_own,
)


class Precision(enum.StrEnum):
    """Precision of a training."""

    AUTO = "auto"
    FLOAT32 = "float32"
    MIXED_BFLOAT16 = "mixed_bfloat16"


def train(
    output: Annotated[Path, typer.Option(help="New directory for the run.")] = Path("build/run"),
    recipe: Annotated[
        RecipeName | None,
        typer.Option(
            help="Recipe; mobilenet is transfer learning.",
            show_default="baseline",
        ),
    ] = None,
    hyperparameters: Annotated[
        Path | None,
        typer.Option(help="trials.json of a search, or a JSON object of changes to the recipe."),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            min=1, help="Number of epochs; default: the recipe's, or 10.", show_default=False
        ),
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
        typer.Option(
            help="Precision; auto is mixed_bfloat16 if the processor supports it, and with --model "
            "what its code chooses."
        ),
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
    repository: Destination = None,
    seed: Seed = 0,
    data: Data = None,
    folder: Folder = None,
    size: Size = None,
    channels: Channels = None,
    skip_corrupt: SkipCorrupt = False,
    model: OwnModel = None,
    data_from: DataFrom = None,
    batch_size: BatchSize = None,
    input_range: OwnRange = None,
    json: Json = False,
) -> None:
    """Train a network, ours or your own.

    The same command resumes an interrupted training after its last finished epoch.
    """
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
    check_own(model, data_from, batch_size, input_range)
    if model is not None:
        for flag, is_given in (
            ("--recipe", recipe is not None), ("--start-from", start_from is not None),
            ("--weights", weights is not None), ("--distill", distill is not None),
        ):  # fmt: skip
            if is_given:
                raise typer.BadParameter("conflicts with --model", param_hint=flag)
    if weights is not None and recipe != "mobilenet" and start_from is None:
        raise typer.BadParameter("requires --recipe mobilenet", param_hint="--weights")
    if weights not in (None, "imagenet") and not Path(weights).is_file():
        raise typer.BadParameter(
            f"{weights} is neither imagenet nor a file", param_hint="--weights"
        )
    check_destination(repository)
    # Imported late, so that usage errors and missing data are reported at once.
    quiet_tensorflow()
    from servable_trainer.tuning.trials import load_hyperparameters

    values = load_hyperparameters(hyperparameters) if hyperparameters else None
    network, dataset = find_own(
        model,
        data_from,
        batch_size,
        lambda: find_dataset(
            data, folder, size=size, channels=channels, skip_corrupt=skip_corrupt, like=start_from
        ),
    )
    with collection_paused():
        from servable_trainer.data.dataset import Dataset
        from servable_trainer.evaluation.teacher import teach
        from servable_trainer.training.train import train as fit
        from servable_trainer.training.train_own import train_own

    options: dict[str, Any] = {
        "directory": output,
        "hyperparameters": values,
        "epochs": epochs,
        "seed": seed,
        "all_data": all_data,
        "validation": validation_share,
        "patience": patience,
        "tensorboard": tensorboard,
        "restart": restart,
    }
    if network is not None:
        chosen = None if precision is Precision.AUTO else precision.value
        run = train_own(network, dataset, precision=chosen, input_range=input_range, **options)
    else:
        assert isinstance(dataset, Dataset)
        run = fit(
            dataset,
            recipe=recipe or "baseline",
            start_from=start_from,
            weights=weights,
            teacher=teach(distill, dataset) if distill else None,
            precision=precision.value,
            calibrate=calibrate,
            **options,
        )
    if json:
        print_json(asdict(run))
    else:
        images = {"data": data, "dataset": folder, "skip_corrupt": skip_corrupt}
        then = command_line(
            "evaluate" if run.labels else "export",
            output,
            custom_objects=run.custom_objects,
            **(images if run.labels else {}),
        )
        say(f"run written to {output}; next: {then}")
