"""`servable evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from servable_client.cli.options import (
    Access,
    CaBundle,
    Certificate,
    Json,
    Key,
    Label,
    PrivateKey,
    Timeout,
    Token,
    Version,
)
from servable_serving.core.imports import collection_paused
from servable_serving.core.lazy_tensorflow import quiet_tensorflow
from servable_trainer.cli.options import CustomObjects, Data, Folder, SkipCorrupt, find_dataset


def evaluate(
    what: Annotated[
        str,
        typer.Argument(
            metavar="RUN|CANDIDATE|ENDPOINT",
            help="A run, a SavedModel (a candidate or version), or grpc://..., http://...",
        ),
    ],
    report: Annotated[
        Path | None,
        typer.Option(help="Write an HTML report to this file, and the same as JSON next to it."),
    ] = None,
    thorough: Annotated[
        bool | None,
        typer.Option(
            "--thorough/--quick",
            help="Measure robustness and latency too; default: only with --report.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            envvar="SERVABLE_MODEL", help="Model name of an endpoint; default: the dataset's name."
        ),
    ] = "",
    version: Version = None,
    label: Label = None,
    api_key: Key = None,
    token: Token = None,
    ca: CaBundle = None,
    certificate: Certificate = None,
    key: PrivateKey = None,
    timeout: Timeout = 30.0,
    custom_objects: CustomObjects = None,
    data: Data = None,
    folder: Folder = None,
    skip_corrupt: SkipCorrupt = False,
    json: Json = False,
) -> None:
    """Evaluate a run, an exported model or a live endpoint on the test images."""
    from contextlib import nullcontext

    from servable_client.cli.console import print_json, print_table, say
    from servable_client.cli.options import make_client

    live = "://" in what
    if not live and (version is not None or label is not None):
        raise typer.BadParameter(f"{what} is not an endpoint; --version and --label need one")
    # Imported late, so that usage errors are reported at once.
    quiet_tensorflow()
    with collection_paused():
        from servable_trainer.evaluation.evaluate import examine
    from servable_trainer.evaluation.report import check_report, write_report
    from servable_trainer.scoring.scores import print_evaluation

    if report:
        check_report(report)
    dataset = find_dataset(
        data, folder, skip_corrupt=skip_corrupt, like=None if live else Path(what)
    )
    options = {"version": version, "label": label, "timeout": timeout}
    access = Access(api_key=api_key, token=token, ca=ca, certificate=certificate, key=key)
    with (
        make_client(what, access, model=model or dataset.name, **options)
        if live
        else nullcontext(Path(what))
    ) as subject:
        found = examine(
            subject,
            dataset,
            thorough=report is not None if thorough is None else thorough,
            custom_objects=custom_objects,
        )
    beside = write_report(report, found, dataset) if report else None
    if json:
        print_json(found.as_dict())
        return
    print_evaluation(found.evaluation, title=what)
    print_table(("metric", "value"), found.rows())
    if report:
        say(f"report written to {report} and {beside}")
