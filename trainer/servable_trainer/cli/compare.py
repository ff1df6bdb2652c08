"""`servable compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from servable_client.cli.options import Json
from servable_serving.core.lazy_tensorflow import quiet_tensorflow
from servable_trainer.cli.options import Data, Folder, Seed, SkipCorrupt, find_dataset


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

    quiet_tensorflow()
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
