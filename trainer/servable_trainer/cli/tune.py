"""`servable tune`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from servable_client.cli.options import Json, usage_error
from servable_serving.core.lazy_tensorflow import quiet_tensorflow
from servable_trainer.cli.options import Channels, Data, Folder, Size, SkipCorrupt, find_dataset


def tune(
    output: Annotated[
        Path, typer.Option(help="Folder of the search; one that is there is gone on with.")
    ] = Path("build/tuning"),
    tuner: Annotated[
        Literal["random", "hyperband", "bayesian"] | None,
        typer.Option(help="How to search.", show_default="random"),
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(min=1, help="How many points of the space to try; 10 where nothing is said."),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(min=0.01, help="How long to search, earlier parts of it counted in."),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="How long to train each; with Hyperband the best ones.",
            show_default="2; with Hyperband 9",
        ),
    ] = None,
    subset: Annotated[
        int | None,
        typer.Option(min=100, help="How many pictures each sees.", show_default="12000"),
    ] = None,
    fix: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="A hyperparameter not to search; may be repeated."),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=(1 << 32) - 1,
            help="The same seed tries the same points.",
            show_default="0",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Begin anew what is in the folder.")
    ] = False,
    role: Annotated[
        Literal["chief", "worker"] | None,
        typer.Option(
            help="Hand trials out, or run them; else as KERASTUNER_TUNER_ID says, or both.",
            show_default=False,
        ),
    ] = None,
    chief: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Where the chief listens; else KERASTUNER_ORACLE_IP and _PORT.",
        ),
    ] = None,
    worker: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="What this worker is called; else by its machine."),
    ] = None,
    watchdog: Annotated[
        float,
        typer.Option(
            min=1,
            help="Seconds after which chief and workers give each other up when nothing is heard.",
        ),
    ] = 60.0,
    data: Data = None,
    folder: Folder = None,
    size: Size = None,
    channels: Channels = None,
    skip_corrupt: SkipCorrupt = False,
    json: Json = False,
) -> None:
    """Search for hyperparameters on part of the training pictures.

    The same command goes on where it was, whatever ended it. Ctrl-C ends it with what is done.
    """
    from dataclasses import asdict

    from servable_client.cli.console import print_json, say
    from servable_trainer.tuning.distributed.roles import role_from
    from servable_trainer.tuning.trials import TuneError, print_trials, trials_of

    # What was asked wrongly is said before TensorFlow has been waited for.
    given: dict[str, Any] = {
        "tuner": tuner,
        "epochs": epochs,
        "subset": subset,
        "seed": seed,
        "fixed": _assignments(fix or []) or None,
    }
    given = {name: value for name, value in given.items() if value is not None}
    try:
        part = role_from(role, chief, worker)
    except TuneError as error:
        raise usage_error(error) from None
    quiet_tensorflow()
    from servable_trainer.tuning.distributed.run import follow, lead
    from servable_trainer.tuning.project import Budget, Settings
    from servable_trainer.tuning.results import Interrupted, SearchFailed
    from servable_trainer.tuning.tune import search

    settings = Settings(**given)
    dataset = find_dataset(data, folder, size=size, channels=channels, skip_corrupt=skip_corrupt)
    status, failure = 0, None
    try:
        if part is not None and not part.chief:
            count = follow(dataset, part, directory=output, given=given, watchdog=watchdog)
            if json:
                print_json({"worker": part.name, "trials": count})
            else:
                say(f"the search is over; worker {part.name} ended {trials_of(count)} of it")
            return
        budget = Budget.of(settings, trials, minutes)
        options: dict[str, Any] = {"directory": output, "settings": settings, "budget": budget}
        if part is not None:
            found = lead(dataset, part, watchdog=watchdog, overwrite=overwrite, **options)
        else:
            found = search(dataset, overwrite=overwrite, **options)
    except Interrupted as interrupted:
        if interrupted.found is None:
            raise typer.Exit(interrupted.status) from None
        found, status = interrupted.found, interrupted.status
    except SearchFailed as error:
        found, failure = error.found, error
    path = output / "trials.json"
    if json:
        print_json({"file": str(path), "plot": str(path.with_suffix(".html")), **asdict(found)})
    elif found.trials:
        print_trials(found.trials)
        say(f"train the best with: servable train --hyperparameters {path}")
    if failure is not None:
        raise failure
    raise typer.Exit(status)


def _assignments(pairs: list[str]) -> dict[str, Any]:
    """NAME=VALUE, the value as in JSON, or a word."""
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
