"""`servable export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from servable_client.cli.options import Json
from servable_serving.core.imports import collection_paused
from servable_serving.core.lazy_tensorflow import quiet_tensorflow
from servable_trainer.cli.options import Data, Directory, Folder, SkipCorrupt, find_dataset


def export(
    run: Directory,
    output: Annotated[Path, typer.Option(help="New directory for the candidate.")] = Path(
        "build/candidate"
    ),
    name: Annotated[str, typer.Option(help="Model name; default: the dataset's name.")] = "",
    data: Data = None,
    folder: Folder = None,
    skip_corrupt: SkipCorrupt = False,
    json: Json = False,
) -> None:
    """Export a run's network as a SavedModel that servers can load."""
    from servable_client.cli.console import print_json, say

    quiet_tensorflow()
    with collection_paused():
        from servable_trainer.training.export_run import export_run

    dataset = find_dataset(data, folder, skip_corrupt=skip_corrupt, like=run)
    manifest = export_run(run, output, dataset, name=name or dataset.name)
    if json:
        print_json(manifest)
    else:
        say(f"candidate written to {output}; next: servable push {output}")
