"""The sub-commands beside the gateway."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from servable_client.cli.commands import _MODEL, _SERVER, Authority, Json, Key, Model, Server
from servable_serving.cli.release import _PATIENCE, Folder, Patience, release

# Longer than any trial.
_LONGEST = 7 * 86_400
_LINE_SECONDS = 10.0


def register(app: typer.Typer) -> None:
    """Add the sub-commands to `app`."""
    app.command()(canary)
    app.command("gateway-metrics")(gateway_metrics)


def _share(text: str) -> float:
    """`10%` or `0.1`, in percent."""
    try:
        percent = float(text[:-1]) if text.endswith("%") else float(text) * 100
    except ValueError:
        percent = -1.0
    if not 0 < percent <= 100:
        raise typer.BadParameter(f"{text!r} is no share; give 10% or 0.1")
    return round(percent, 2)


def _part(text: str) -> float:
    """`1%` or `0.01`, from 0 to 1."""
    return 0.0 if text in {"0", "0%"} else _share(text) / 100


def _duration(text: str) -> float:
    """`90s`, `10m` or `1h`, in seconds."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    seconds = float(found[1]) * {"s": 1, "": 1, "m": 60, "h": 3600}[found[2]] if found else 0.0
    if not 0 < seconds <= _LONGEST:
        raise typer.BadParameter(f"{text!r} is no time; give 90s, 10m or 1h, a week at most")
    return seconds


def canary(
    version: Annotated[int, typer.Argument(help="The version to try.")],
    share: Annotated[
        Any,
        typer.Option(
            parser=_share,
            metavar="PERCENT",
            help="How much of the requests that name no version it gets.",
        ),
    ] = "10%",
    duration: Annotated[
        Any,
        typer.Option("--for", parser=_duration, metavar="TIME", help="For how long: 90s, 10m, 1h."),
    ] = "10m",
    max_errors: Annotated[
        Any,
        typer.Option(
            parser=_part,
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
    model: Model = _MODEL,
    repository: Folder = None,
    server: Server = _SERVER,
    api_key: Key = None,
    ca: Authority = None,
    timeout: Patience = _PATIENCE,
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


def gateway_metrics(
    port: Annotated[
        int, typer.Option(help="Where Prometheus asks, over HTTP.", min=0, max=65535)
    ] = 9145,
    syslog_port: Annotated[
        int, typer.Option(help="Where the gateway sends its lines, over UDP.", min=0, max=65535)
    ] = 5145,
    host: Annotated[
        str, typer.Option(envvar="SERVABLE_HOST", help="The address to listen at.")
    ] = "127.0.0.1",
) -> None:
    """Count the gateway's requests for Prometheus: syslog in, metrics out at /metrics."""
    import signal
    import threading

    from servable_client.cli.console import say
    from servable_serving.gateway.listener import GatewayListener

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with GatewayListener(host=host, port=port, syslog_port=syslog_port) as listener:
        say(
            f"metrics at http://{host}:{listener.port}/metrics,"
            f" the gateway's lines at {host}:{listener.syslog_port}"
        )
        stop.wait()
