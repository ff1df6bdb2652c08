"""`servable canary`."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from servable_client.cli.options import (
    DEFAULT_MODEL,
    DEFAULT_SERVER,
    Access,
    CaBundle,
    Certificate,
    Json,
    Key,
    Model,
    PrivateKey,
    Server,
    Token,
)
from servable_serving.cli.options import (
    STEP_TIMEOUT,
    LocalFolder,
    StepTimeout,
    duration,
    fraction,
    percent,
    release,
)

_LINE_SECONDS = 10.0


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(canary)


def canary(
    version: Annotated[int, typer.Argument(help="Version to try out.")],
    share: Annotated[
        Any,
        typer.Option(
            parser=percent,
            metavar="PERCENT",
            help="Share of the requests that name no version.",
        ),
    ] = "10%",
    duration: Annotated[
        Any,
        typer.Option(
            "--for",
            parser=duration,
            metavar="TIME",
            help="Duration of the trial, e.g. 90s, 10m, 1h.",
        ),
    ] = "10m",
    max_errors: Annotated[
        Any,
        typer.Option(
            parser=fraction,
            metavar="PERCENT",
            help="Maximum increase of the error rate over that of stable.",
        ),
    ] = "1%",
    max_latency_ratio: Annotated[
        float, typer.Option(help="Maximum p95 latency relative to stable.", min=1.0)
    ] = 1.5,
    min_requests: Annotated[
        int, typer.Option(help="Minimum requests per version required to promote.", min=1)
    ] = 100,
    metrics: Annotated[
        str,
        typer.Option(
            envvar="SERVABLE_GATEWAY_METRICS",
            help="URL of the metrics of `servable gateway-metrics`.",
        ),
    ] = "http://127.0.0.1:9145/metrics",
    report: Annotated[
        Path | None,
        typer.Option(help="Folder for the report; default: .reports in the repository."),
    ] = None,
    model: Model = DEFAULT_MODEL,
    repository: LocalFolder = None,
    server: Server = DEFAULT_SERVER,
    api_key: Key = None,
    token: Token = None,
    ca: CaBundle = None,
    certificate: Certificate = None,
    key: PrivateKey = None,
    timeout: StepTimeout = STEP_TIMEOUT,
    json: Json = False,
) -> None:
    """Try out a version on a share of the traffic, then promote or withdraw it.

    The gateway sends it a share of the REST requests that name no version, and its errors and
    latency are compared with those of stable. However the trial ends, the share is 0 afterwards.
    """
    from servable_client.cli.console import print_json, say
    from servable_serving.canary.report import FOLDER, write_report
    from servable_serving.canary.rules import PromotionRules
    from servable_serving.canary.trial import PROMOTED, CanaryFailed, plan_trial, run_trial
    from servable_serving.release.steps import Steps

    rules = PromotionRules(
        percent=share,
        seconds=duration,
        max_errors=max_errors,
        max_latency_ratio=max_latency_ratio,
        min_requests=min_requests,
        every=min(2.0, max(duration / 30, 0.2)),
    )
    access = Access(api_key=api_key, token=token, ca=ca, certificate=certificate, key=key)
    with release(model, repository, server, False, access, timeout) as labels:
        trial = plan_trial(version, labels, rules)
        steps = Steps()
        try:
            run_trial(trial, labels, steps, metrics=metrics, tell=_sparsely(steps.say))
        finally:
            if trial.reason:
                page = write_report(trial, report or labels.repository.path / FOLDER)
                say(f"wrote the report {page}")
    if json:
        print_json({**trial.as_json(), "report": str(page), "steps": steps.as_json()})
    elif trial.outcome == PROMOTED:
        typer.echo(f"version {version} is stable: {trial.reason}")
    if trial.outcome != PROMOTED:
        raise CanaryFailed(
            f"version {version} of {trial.model} was withdrawn: {trial.reason}",
            hint=f"{page} has the figures",
        )


def _sparsely(say: Callable[[str], None]) -> Callable[[str], None]:
    """Call `say` at most every ten seconds, rather than at each poll."""
    last = 0.0

    def tell(text: str) -> None:
        nonlocal last
        if time.monotonic() - last >= _LINE_SECONDS:
            last = time.monotonic()
            say(text)

    return tell
