"""`servable tune`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from servable_client.cli.options import Json, usage_error
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
    Size,
    SkipCorrupt,
    check_destination,
    check_own,
    command_line,
    find_dataset,
    find_own,
)


def tune(
    output: Annotated[
        Path, typer.Option(help="Search directory; an existing search is resumed.")
    ] = Path("build/tuning"),
    tuner: Annotated[
        Literal["random", "hyperband", "bayesian"] | None,
        typer.Option(help="Search algorithm.", show_default="random"),
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(min=1, help="Maximum number of trials.", show_default="10"),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(min=0.01, help="Maximum duration in minutes, interrupted parts included."),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Epochs per trial; with Hyperband those of the best trials.",
            show_default="2, or 9 with Hyperband",
        ),
    ] = None,
    subset: Annotated[
        int | None,
        typer.Option(
            min=100,
            help="Number of training examples per trial.",
            show_default="12000 images, or all other data",
        ),
    ] = None,
    objective: Annotated[
        str | None,
        typer.Option(
            metavar="NAME[:min|max]",
            help="Metric to optimize, by its name in Keras; default: val_accuracy, or val_loss if "
            "the network is compiled without accuracy.",
            show_default=False,
        ),
    ] = None,
    fix: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Fix a hyperparameter (repeatable)."),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=(1 << 32) - 1,
            help="Random seed; the same seed tries the same points.",
            show_default="0",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Discard the existing search.")
    ] = False,
    role: Annotated[
        Literal["chief", "worker"] | None,
        typer.Option(
            help="Role in a distributed search; default: from KERASTUNER_TUNER_ID, or both.",
            show_default=False,
        ),
    ] = None,
    chief: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="The chief's address; default: KERASTUNER_ORACLE_IP and KERASTUNER_ORACLE_PORT.",
        ),
    ] = None,
    worker: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Worker name; default: host name and process ID."),
    ] = None,
    watchdog: Annotated[
        float,
        typer.Option(
            min=1,
            help="Heartbeat timeout in seconds.",
        ),
    ] = 60.0,
    repository: Destination = None,
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
    """Search for hyperparameters of a network, ours or your own.

    The same command resumes an interrupted search. Ctrl-C ends it and saves the finished trials.
    """
    from dataclasses import asdict

    from servable_client.cli.console import print_json, say
    from servable_trainer.tuning.distributed.roles import role_from
    from servable_trainer.tuning.trials import TuneError, print_trials, trials_of

    # Usage errors are reported before TensorFlow is imported, which takes seconds.
    check_own(model, data_from, batch_size, input_range)
    given: dict[str, Any] = {
        "tuner": tuner,
        "epochs": epochs,
        "subset": subset,
        "seed": seed,
        "fixed": _assignments(fix or []) or None,
        "objective": objective,
    }
    given = {name: value for name, value in given.items() if value is not None}
    try:
        part = role_from(role, chief, worker)
    except TuneError as error:
        raise usage_error(error) from None
    check_destination(repository)
    quiet_tensorflow()
    with collection_paused():
        from servable_trainer.networks.classifier import HyperparameterError
        from servable_trainer.tuning.distributed.run import follow, lead
    from servable_trainer.tuning.objective import ObjectiveError
    from servable_trainer.tuning.project import SearchBudget, SearchSettings
    from servable_trainer.tuning.results import Interrupted, SearchFailed
    from servable_trainer.tuning.subject import subject_of
    from servable_trainer.tuning.tune import search

    settings = SearchSettings(**given)
    network, dataset = find_own(
        model,
        data_from,
        batch_size,
        lambda: find_dataset(data, folder, size=size, channels=channels, skip_corrupt=skip_corrupt),
    )
    subject = subject_of(dataset, network, input_range=input_range)
    status, failure = 0, None
    try:
        if part is not None and not part.chief:
            count = follow(subject, part, directory=output, given=given, watchdog=watchdog)
            if json:
                print_json({"worker": part.name, "trials": count})
            else:
                say(f"search finished; worker {part.name} completed {trials_of(count)}")
            return
        budget = SearchBudget.of(settings, trials, minutes)
        options: dict[str, Any] = {"directory": output, "settings": settings, "budget": budget}
        if part is not None:
            result = lead(subject, part, watchdog=watchdog, overwrite=overwrite, **options)
        else:
            result = search(subject, overwrite=overwrite, **options)
    except HyperparameterError as error:  # before the first trial: those of --fix alone are given
        raise usage_error(error, param_hint="--fix") from None
    except ObjectiveError as error:
        raise usage_error(error, param_hint="--objective") from None
    except Interrupted as interrupted:
        if interrupted.result is None:
            raise typer.Exit(interrupted.status) from None
        result, status = interrupted.result, interrupted.status
    except SearchFailed as error:
        result, failure = error.result, error
    path = output / "trials.json"
    if json:
        print_json({"file": str(path), "plot": str(path.with_suffix(".html")), **asdict(result)})
    elif result.trials:
        print_trials(result.trials, objective=result.objective)
        then = command_line(
            "train",
            model=model,
            data_from=data_from,
            batch_size=batch_size,
            input_range=input_range,
            data=data,
            dataset=folder,
            size=size,
            channels=channels,
            skip_corrupt=skip_corrupt,
            hyperparameters=path,
        )
        say(f"train the best trial with: {then}")
    if failure is not None:
        raise failure
    raise typer.Exit(status)


def _assignments(pairs: list[str]) -> dict[str, Any]:
    """Parse NAME=VALUE pairs; a value is JSON, or else a string."""
    from json import loads

    values: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not (name and equals and text):
            raise typer.BadParameter(f"{pair!r} is not NAME=VALUE", param_hint="--fix")
        try:
            values[name] = loads(text)
        except ValueError:
            values[name] = text
    return values
