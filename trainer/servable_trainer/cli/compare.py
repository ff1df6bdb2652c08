"""`servable compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from servable_client.cli.options import Json
from servable_serving.core.imports import collection_paused
from servable_serving.core.lazy_tensorflow import quiet_tensorflow
from servable_trainer.cli.options import (
    CustomObjects,
    Data,
    Folder,
    MethodName,
    Seed,
    SkipCorrupt,
    find_dataset,
)


def compare(
    networks: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[RUN|CANDIDATE]...",
            help="Networks to compare; default: models/DATASET/1, if it exists.",
        ),
    ] = None,
    method: Annotated[
        list[MethodName] | None,
        typer.Option(help="Classic method (repeatable); default: all."),
    ] = None,
    subset: Annotated[
        int | None,
        typer.Option(min=100, help="Number of images to train on; a sixth as many test."),
    ] = None,
    best: Annotated[
        Literal["accuracy", "macro_f1"], typer.Option(help="Metric that decides which is best.")
    ] = "accuracy",
    max_ms: Annotated[
        float | None, typer.Option(min=0, help="Budget: maximum CPU-milliseconds per image.")
    ] = None,
    max_mb: Annotated[
        float | None, typer.Option(min=0, help="Budget: maximum size on disk in MB.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Write a Markdown page to this file, with .svg and .json next to it."),
    ] = None,
    seed: Seed = 0,
    custom_objects: CustomObjects = None,
    data: Data = None,
    folder: Folder = None,
    skip_corrupt: SkipCorrupt = False,
    json: Json = False,
) -> None:
    """Compare networks with classic methods in accuracy and cost.

    Exit status 1 if nothing fits the budget; the table is printed in any case.
    """
    from servable_client.cli.console import print_json, say

    quiet_tensorflow()
    with collection_paused():
        from servable_trainer.comparison.compare import compare as compare_with
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
    found = compare_with(
        networks, dataset, methods=method, subset=subset, seed=seed, custom_objects=custom_objects
    )
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
            say(f"best: {winner.name} ({rule})")
        if output:
            say(f"page written to {output}")
    if refusal:
        raise refusal
