"""The sub-commands that get data, tune, train, evaluate and export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from servable_client._commands import Authority, Json, Key, Label, Timeout, Version

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
    app.command()(compare)
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
    output: Annotated[Path, typer.Option(help="Folder for the trials; replaced.")] = Path(
        "build/tuning"
    ),
    trials: Annotated[int, typer.Option(min=1, help="How many points of the space to try.")] = 10,
    epochs: Annotated[int, typer.Option(min=1, help="How long to train each.")] = 2,
    subset: Annotated[int, typer.Option(min=100, help="How many pictures each sees.")] = 12_000,
    seed: Seed = 0,
    data: Data = None,
    json: Json = False,
) -> None:
    """Search for hyperparameters on part of the training pictures."""
    from servable_client._console import print_json, say

    _quiet()
    from servable_trainer._fashion_mnist import find
    from servable_trainer._tune import print_trials, save_trials
    from servable_trainer._tune import tune as search

    _, dataset = find(data)
    found = search(
        dataset, directory=output, trials=trials, epochs=epochs, subset=subset, seed=seed
    )
    path = save_trials(output, found)
    if json:
        print_json({"trials": [vars(trial) for trial in found], "file": str(path)})
    else:
        print_trials(found)
        say(f"train the best with: servable train --hyperparameters {path}")


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
    from servable_trainer._tune import load_hyperparameters

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
    json: Json = False,
) -> None:
    """Show how good a run, an exported model or a live endpoint is on the test pictures."""
    from contextlib import nullcontext

    from servable_client._commands import _client
    from servable_client._console import print_json, print_table, say

    _quiet()
    from servable_trainer._candidate import examine
    from servable_trainer._evaluate import print_evaluation
    from servable_trainer._fashion_mnist import find
    from servable_trainer._report import check_report, write_report

    live = "://" in what
    if not live and (version is not None or label is not None):
        raise typer.BadParameter(f"{what} is no endpoint; --version and --label are for one")
    if report:
        check_report(report)
    _, dataset = find(data)
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
    json: Json = False,
) -> None:
    """Compare networks with classic methods: accuracy, and what it costs.

    Exit status 1 if nothing fits the budget; the table is there all the same.
    """
    from servable_client._console import print_json, say

    _quiet()
    from servable_trainer._compare import compare as hold
    from servable_trainer._comparison_page import as_dict, check_page, print_comparison, write_page
    from servable_trainer._contender import CompareError, Rule, best_of
    from servable_trainer._fashion_mnist import find

    rule = Rule(by=best, max_ms=max_ms, max_mb=max_mb)
    if output:
        check_page(output)
    _, dataset = find(data)
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
