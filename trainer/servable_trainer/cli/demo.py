"""`servable demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from servable_serving.core.lazy_tensorflow import quiet_tensorflow
from servable_trainer.cli.options import Data


def demo(
    directory: Annotated[
        Path, typer.Option(help="Working directory; an earlier demo there is deleted.")
    ] = Path("build/demo"),
    trials: Annotated[int, typer.Option(min=1, help="Number of trials of the search.")] = 3,
    epochs: Annotated[int, typer.Option(min=1, help="Number of training epochs.")] = 3,
    subset: Annotated[
        int, typer.Option(min=100, help="Number of training images per trial.")
    ] = 12_000,
    port: Annotated[int, typer.Option(help="gRPC port.", min=1, max=65535)] = 8500,
    rest_api_port: Annotated[int, typer.Option(help="REST port.", min=1, max=65535)] = 8501,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the server running.")] = False,
    data: Data = None,
) -> None:
    """Run all steps on this machine: data, tune, train, export, serve, classify, new version."""
    quiet_tensorflow()
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
