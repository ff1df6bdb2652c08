"""The sub-commands that get data, tune, train, evaluate and export."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from servable_client.cli.commands import (
    Authority,
    Json,
    Key,
    Label,
    Timeout,
    Version,
    asked_wrongly,
)
from servable_trainer.cli.dataset_flags import Channels, Folder, Size, SkipCorrupt, find_dataset

Data = Annotated[
    Path | None,
    typer.Option(help="Fashion-MNIST's folder; else SERVABLE_DATA, or wherever it is found."),
]
Seed = Annotated[
    int,
    typer.Option(
        help="The same seed gives the same result on one machine.", min=0, max=(1 << 32) - 1
    ),
]
Directory = Annotated[Path, typer.Argument(metavar="RUN", help="A folder that train wrote.")]


class Precision(enum.StrEnum):
    """What a network can learn in."""

    AUTO = "auto"
    FLOAT32 = "float32"
    MIXED_BFLOAT16 = "mixed_bfloat16"


def register(app: typer.Typer) -> None:
    """Add the sub-commands to `app`."""
    data = typer.Typer(help="The dataset.", no_args_is_help=True)
    data.command()(fetch)
    app.add_typer(data, name="data")
    app.command()(tune)
    app.command()(train)
    app.command()(evaluate)
    app.command()(compare)
    app.command()(export)
    app.command()(demo)


def fetch(data: Data = None, json: Json = False) -> None:
    """Find the dataset or get it, and check every file."""
    from servable_client.cli.console import print_json, say
    from servable_trainer.data.fashion_mnist import find

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
        raise asked_wrongly(error) from None
    _quiet()
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

    _quiet()
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


def evaluate(
    what: Annotated[
        str,
        typer.Argument(
            metavar="RUN|CANDIDATE|ENDPOINT",
            help="A run's folder, a SavedModel's (a version's too), or grpc://..., http://...",
        ),
    ],
    report: Annotated[
        Path | None, typer.Option(help="An HTML file to write, with the same as .json beside it.")
    ] = None,
    thorough: Annotated[
        bool | None,
        typer.Option(
            "--thorough/--quick",
            help="Measure robustness and latency too; with a report unless --quick is given.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            envvar="SERVABLE_MODEL", help="An endpoint's model; the dataset's name unless given."
        ),
    ] = "",
    version: Version = None,
    label: Label = None,
    api_key: Key = None,
    ca: Authority = None,
    timeout: Timeout = 30.0,
    data: Data = None,
    folder: Folder = None,
    skip_corrupt: SkipCorrupt = False,
    json: Json = False,
) -> None:
    """Show how good a run, an exported model or a live endpoint is on the test pictures."""
    from contextlib import nullcontext

    from servable_client.cli.commands import _client
    from servable_client.cli.console import print_json, print_table, say

    _quiet()
    from servable_trainer.evaluation.evaluate import examine
    from servable_trainer.evaluation.report import check_report, write_report
    from servable_trainer.scoring.scores import print_evaluation

    live = "://" in what
    if not live and (version is not None or label is not None):
        raise typer.BadParameter(f"{what} is no endpoint; --version and --label are for one")
    if report:
        check_report(report)
    dataset = find_dataset(
        data, folder, skip_corrupt=skip_corrupt, like=None if live else Path(what)
    )
    options = {"version": version, "label": label, "timeout": timeout}
    with (
        _client(what, model=model or dataset.name, api_key=api_key, ca=ca, **options)
        if live
        else nullcontext(Path(what))
    ) as subject:
        found = examine(
            subject, dataset, thorough=report is not None if thorough is None else thorough
        )
    beside = write_report(report, found, dataset) if report else None
    if json:
        print_json(found.as_dict())
        return
    print_evaluation(found.evaluation, title=what)
    print_table(("beside it", "measured"), found.rows())
    if report:
        say(f"the report is in {report}, the same as JSON in {beside}")


def compare(
    networks: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[RUN|CANDIDATE]...",
            help="Folders of networks; version 1 in models, where it is there, unless given.",
        ),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(help="A classic method, may be repeated; all unless given."),
    ] = None,
    subset: Annotated[
        int | None, typer.Option(min=100, help="Fit so many pictures only; a sixth tests.")
    ] = None,
    best: Annotated[
        Literal["accuracy", "macro_f1"], typer.Option(help="The figure that makes the best.")
    ] = "accuracy",
    max_ms: Annotated[
        float | None, typer.Option(min=0, help="The best's CPU-milliseconds a picture, at most.")
    ] = None,
    max_mb: Annotated[
        float | None, typer.Option(min=0, help="The best's megabytes on disk, at most.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="A .md file to write, with .svg and .json beside it.")
    ] = None,
    seed: Seed = 0,
    data: Data = None,
    folder: Folder = None,
    skip_corrupt: SkipCorrupt = False,
    json: Json = False,
) -> None:
    """Compare networks with classic methods: accuracy, and what it costs.

    Exit status 1 if nothing fits the budget; the table is there all the same.
    """
    from servable_client.cli.console import print_json, say

    _quiet()
    from servable_trainer.comparison.compare import compare as hold
    from servable_trainer.comparison.contender import CompareError, Rule, best_of
    from servable_trainer.comparison.page import as_dict, check_page, print_comparison, write_page

    rule = Rule(by=best, max_ms=max_ms, max_mb=max_mb)
    if output:
        check_page(output)
    dataset = find_dataset(
        data, folder, skip_corrupt=skip_corrupt, like=networks[0] if networks else None
    )
    if not networks:
        shipped = Path("models") / dataset.name / "1"
        networks = [shipped] if shipped.is_dir() else []
    found = hold(networks, dataset, methods=method, subset=subset, seed=seed)
    winner, refusal = None, None
    try:
        winner = best_of(found.contenders, rule)
    except CompareError as error:
        refusal = error
    if output:
        write_page(output, found, rule=rule, best=winner)
    if json:
        print_json(as_dict(found, rule=rule, best=winner))
    else:
        print_comparison(found)
        if winner:
            say(f"the best is {winner.name}: {rule}")
        if output:
            say(f"the page is in {output}")
    if refusal:
        raise refusal


def export(
    run: Directory,
    output: Annotated[Path, typer.Option(help="A new folder for the candidate.")] = Path(
        "build/candidate"
    ),
    name: Annotated[str, typer.Option(help="The name to serve it under.")] = "",
    data: Data = None,
    folder: Folder = None,
    skip_corrupt: SkipCorrupt = False,
    json: Json = False,
) -> None:
    """Write a run's network as a SavedModel that servers can load."""
    from servable_client.cli.console import print_json, say

    _quiet()
    from servable_trainer.evaluation.evaluate import export_run

    dataset = find_dataset(data, folder, skip_corrupt=skip_corrupt, like=run)
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
    from servable_trainer.demo.demo import Demo

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
    from servable_serving.core.lazy_tensorflow import quiet_tensorflow

    quiet_tensorflow()
