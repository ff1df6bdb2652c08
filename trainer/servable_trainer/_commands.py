"""The sub-commands that get data, tune, train, evaluate and export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from servable_client._commands import Json

Data = Annotated[
    Path | None,
    typer.Option(help="Folder of the dataset; else SERVABLE_DATA, or wherever it is found."),
]
Seed = Annotated[
    int,
    typer.Option(
        help="The same seed gives the same result on one machine.", min=0, max=(1 << 32) - 1
    ),
]
Directory = Annotated[Path, typer.Argument(metavar="RUN", help="A folder that train wrote.")]


def register(app: typer.Typer) -> None:
    """Add the sub-commands to `app`."""
    data = typer.Typer(help="The dataset.", no_args_is_help=True)
    data.command()(fetch)
    app.add_typer(data, name="data")
    app.command()(tune)
    app.command()(train)
    app.command()(evaluate)
    app.command()(export)
    app.command()(demo)


def fetch(data: Data = None, json: Json = False) -> None:
    """Find the dataset or get it, and check every file."""
    from servable_client._console import print_json, say
    from servable_trainer._fashion_mnist import find

    folder, dataset = find(data)
    if json:
        print_json(
            {
                "folder": str(folder),
                "train": len(dataset.train),
                "test": len(dataset.test),
                "sha256": dataset.checksums,
            }
        )
    else:
        say(
            f"{dataset.name} is in {folder}: {len(dataset.train)} pictures to train with, "
            f"{len(dataset.test)} to test with, all four files checked"
        )


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
            min=1, help="How long to train each; with Hyperband the best ones.", show_default="2"
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
    json: Json = False,
) -> None:
    """Search for hyperparameters on part of the training pictures.

    The same command goes on where it was, whatever ended it. Ctrl-C ends it with what is done.
    """
    from dataclasses import asdict

    from servable_client._console import print_json, say

    _quiet()
    from servable_trainer._distributed import follow, lead
    from servable_trainer._fashion_mnist import find
    from servable_trainer._project import Budget, Settings
    from servable_trainer._results import Interrupted, SearchFailed
    from servable_trainer._roles import role_from
    from servable_trainer._trials import TuneError, print_trials
    from servable_trainer._tune import search

    given: dict[str, Any] = {
        "tuner": tuner,
        "epochs": epochs,
        "subset": subset,
        "seed": seed,
        "fixed": _assignments(fix or []) or None,
    }
    given = {name: value for name, value in given.items() if value is not None}
    settings = Settings(**given)
    try:
        part = role_from(role, chief, worker)
    except TuneError as error:
        raise typer.BadParameter(f"{error}; {error.hint}" if error.hint else str(error)) from None
    _, dataset = find(data)
    status, failure = 0, None
    try:
        if part is not None and not part.chief:
            count = follow(dataset, part, directory=output, given=given, watchdog=watchdog)
            if json:
                print_json({"worker": part.name, "trials": count})
            else:
                say(f"the search is over; worker {part.name} ended {count} trials of it")
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


def train(
    output: Annotated[Path, typer.Option(help="A new folder for the run.")] = Path("build/run"),
    hyperparameters: Annotated[
        Path | None, typer.Option(help="What tune wrote, or a JSON object of your own.")
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="How often each picture is seen.")] = 10,
    start_from: Annotated[
        Path | None, typer.Option(help="A run to go on with, in place of a new network.")
    ] = None,
    all_data: Annotated[
        bool, typer.Option("--all-data", help="Learn from the validation pictures too.")
    ] = False,
    seed: Seed = 0,
    data: Data = None,
    json: Json = False,
) -> None:
    """Train a network."""
    from dataclasses import asdict

    from servable_client._console import print_json, say

    _quiet()
    from servable_trainer._fashion_mnist import find
    from servable_trainer._train import train as fit
    from servable_trainer._trials import load_hyperparameters

    if hyperparameters and start_from:
        raise typer.BadParameter(
            "the run that it starts from has its own", param_hint="--hyperparameters"
        )
    values = load_hyperparameters(hyperparameters) if hyperparameters else None
    _, dataset = find(data)
    run = fit(
        dataset,
        directory=output,
        hyperparameters=values,
        epochs=epochs,
        seed=seed,
        start_from=start_from,
        all_data=all_data,
    )
    if json:
        print_json(asdict(run))
    else:
        say(f"the run is in {output}; next: servable evaluate {output}")


def evaluate(
    what: Annotated[Path, typer.Argument(metavar="RUN|CANDIDATE", help="What to evaluate.")],
    data: Data = None,
    json: Json = False,
) -> None:
    """Show how good a run or an exported model is on the test pictures."""
    from dataclasses import asdict

    from servable_client._console import print_json

    _quiet()
    from servable_trainer._candidate import evaluate as measure
    from servable_trainer._evaluate import print_evaluation
    from servable_trainer._fashion_mnist import find

    evaluation = measure(what, find(data)[1])
    if json:
        print_json(asdict(evaluation))
    else:
        print_evaluation(evaluation, title=str(what))


def export(
    run: Directory,
    output: Annotated[Path, typer.Option(help="A new folder for the candidate.")] = Path(
        "build/candidate"
    ),
    name: Annotated[str, typer.Option(help="The name to serve it under.")] = "",
    data: Data = None,
    json: Json = False,
) -> None:
    """Write a run's network as a SavedModel that servers can load."""
    from servable_client._console import print_json, say

    _quiet()
    from servable_trainer._candidate import export_run
    from servable_trainer._fashion_mnist import find

    _, dataset = find(data)
    manifest = export_run(run, output, dataset, name=name or dataset.name)
    if json:
        print_json(manifest)
    else:
        say(f"the candidate is in {output}; next: servable push {output}")


def demo(
    directory: Annotated[Path, typer.Option(help="Where to work; replaced.")] = Path("build/demo"),
    trials: Annotated[int, typer.Option(min=1, help="Points of the search.")] = 3,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of the training.")] = 3,
    subset: Annotated[int, typer.Option(min=100, help="Pictures of the search.")] = 12_000,
    port: Annotated[int, typer.Option(help="gRPC's port.", min=1, max=65535)] = 8500,
    rest_api_port: Annotated[int, typer.Option(help="REST's port.", min=1, max=65535)] = 8501,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the server up.")] = False,
    data: Data = None,
) -> None:
    """Go the whole way on this machine: data, tune, train, export, serve, classify, new version."""
    _quiet()
    from servable_trainer._demo import Demo

    Demo(
        directory=directory,
        trials=trials,
        epochs=epochs,
        subset=subset,
        port=port,
        rest_port=rest_api_port,
        keep=keep,
        data=data,
    ).run()


def _quiet() -> None:
    from servable_serving._commands import quiet_tensorflow

    quiet_tensorflow()
