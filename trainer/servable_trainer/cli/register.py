"""The commands of the trainer: data, tune, train, evaluate, compare, export and demo."""

from __future__ import annotations

import typer

from servable_trainer.cli.compare import compare
from servable_trainer.cli.data import fetch
from servable_trainer.cli.demo import demo
from servable_trainer.cli.evaluate import evaluate
from servable_trainer.cli.export import export
from servable_trainer.cli.train import train
from servable_trainer.cli.tune import tune


def register(app: typer.Typer) -> None:
    """Add the sub-commands to `app`."""
    data = typer.Typer(help="Manage the dataset.", no_args_is_help=True)
    data.command()(fetch)
    app.add_typer(data, name="data")
    app.command()(tune)
    app.command()(train)
    app.command()(evaluate)
    app.command()(compare)
    app.command()(export)
    app.command()(demo)
