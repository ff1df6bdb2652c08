"""The sub-commands beside the gateway."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from servable_client.cli.options import (
    DEFAULT_MODEL,
    DEFAULT_SERVER,
    CaBundle,
    Json,
    Key,
    Model,
    Server,
)
from servable_serving.cli.options import (
    STEP_TIMEOUT,
    Folder,
    StepTimeout,
    duration,
    fraction,
    percent,
    release,
)

_LINE_SECONDS = 10.0


def register(app: typer.Typer) -> None:
    """Add the sub-commands to `app`."""
    app.command()(canary)


def canary(
    version: Annotated[int, typer.Argument(help="The version to try.")],
    share: Annotated[
        Any,
        typer.Option(
            parser=percent,
            metavar="PERCENT",
            help="How much of the requests that name no version it gets.",
        ),
    ] = "10%",
    duration: Annotated[
        Any,
        typer.Option("--for", parser=duration, metavar="TIME", help="For how long: 90s, 10m, 1h."),
    ] = "10m",
    max_errors: Annotated[
        Any,
        typer.Option(
            parser=fraction,
            metavar="PERCENT",
            help="How much larger its share of errors may be than stable's.",
        ),
    ] = "1%",
    max_latency_ratio: Annotated[
        float, typer.Option(help="How many times stable's 95th percentile may be its.", min=1.0)
    ] = 1.5,
    min_requests: Annotated[
        int, typer.Option(help="Fewer than this of either prove nothing: no promotion.", min=1)
    ] = 100,
    metrics: Annotated[
        str,
        typer.Option(
            envvar="SERVABLE_GATEWAY_METRICS", help="The page of `servable gateway-metrics`."
        ),
    ] = "http://127.0.0.1:9145/metrics",
    report: Annotated[
        Path | None,
        typer.Option(help="The folder for the report; .reports beside the versions unless given."),
    ] = None,
    model: Model = DEFAULT_MODEL,
    repository: Folder = None,
    server: Server = DEFAULT_SERVER,
    api_key: Key = None,
    ca: CaBundle = None,
    timeout: StepTimeout = STEP_TIMEOUT,
    json: Json = False,
) -> None:
    """Try a version on a share of the traffic, then promote it or take it out.

    The gateway sends it a share of the REST requests that name no version; errors and latency are
    held against those of stable. Whatever ends the trial, the share is 0 afterwards.
    """
    from servable_client.cli.console import print_json, say
    from servable_serving.canary import run
    from servable_serving.canary.report import FOLDER, write_report
    from servable_serving.release.steps import Steps

    rules = run.Rules(
        percent=share,
        seconds=duration,
        max_errors=max_errors,
        max_latency_ratio=max_latency_ratio,
        min_requests=min_requests,
        every=min(2.0, max(duration / 30, 0.2)),
    )
    with release(model, repository, server, False, api_key, ca, timeout) as labels:
        trial = run.plan(version, labels, rules)
        steps = Steps()
        try:
            run.run(trial, labels, steps, metrics=metrics, tell=_sparsely(steps.say))
        finally:
            if trial.reason:
                page = write_report(trial, report or labels.repository.path / FOLDER)
                say(f"the report is {page}")
    if json:
        print_json({**trial.as_json(), "report": str(page), "steps": steps.as_json()})
    elif trial.outcome == run.PROMOTED:
        typer.echo(f"version {version} is stable: {trial.reason}")
    if trial.outcome != run.PROMOTED:
        raise run.CanaryFailed(
            f"version {version} of {trial.model} is out of service: {trial.reason}",
            hint=f"{page} has the figures",
        )


def _sparsely(say: Callable[[str], None]) -> Callable[[str], None]:
    """Not at each look: every ten seconds."""
    last = 0.0

    def tell(text: str) -> None:
        nonlocal last
        if time.monotonic() - last >= _LINE_SECONDS:
            last = time.monotonic()
            say(text)

    return tell
