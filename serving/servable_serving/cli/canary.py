"""`servable canary` and `servable shadow`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    MIRROR,
    STEP_TIMEOUT,
    Folder,
    Mirror,
    StepTimeout,
    duration,
    fraction,
    percent,
    release,
    remote_at,
    servers_at,
)
from servable_serving.core.addresses import is_url
from servable_serving.core.names import shadow_name
from servable_serving.core.signals import exit_on_signals

if TYPE_CHECKING:
    from servable_serving.canary.rules import PromotionRules
    from servable_serving.canary.shadow_trial import ShadowTrial
    from servable_serving.canary.site import Site
    from servable_serving.canary.trial import CanaryTrial
    from servable_serving.release.steps import Steps

_LINE_SECONDS = 10.0


Share = Annotated[
    Any,
    typer.Option(
        parser=percent, metavar="PERCENT", help="Share of the requests that name no version."
    ),
]
MirroredShare = Annotated[
    Any,
    typer.Option(
        parser=percent, metavar="PERCENT", help="Share of the requests to stable to mirror."
    ),
]
Duration = Annotated[
    Any,
    typer.Option(
        "--for", parser=duration, metavar="TIME", help="Duration of the trial, e.g. 90s, 10m, 1h."
    ),
]
MaxErrors = Annotated[
    Any,
    typer.Option(
        parser=fraction,
        metavar="PERCENT",
        help="Maximum increase of the error rate over that of stable.",
    ),
]
MaxLatencyRatio = Annotated[
    float, typer.Option(help="Maximum p95 latency relative to stable.", min=1.0)
]
MinRequests = Annotated[
    int, typer.Option(help="Minimum requests per version required to pass.", min=1)
]
MaxDiffer = Annotated[
    Any,
    typer.Option(
        parser=fraction,
        metavar="PERCENT",
        help="Maximum share of mirrored rows with another label or class than stable's; of other "
        "outputs, of their variance.",
    ),
]
MaxPsi = Annotated[
    float,
    typer.Option(
        help="Maximum population stability index of classes and confidences against stable's.",
        min=0.0,
    ),
]
Ignore = Annotated[
    list[str] | None,
    typer.Option(metavar="OUTPUT", help="Output that is not compared; repeatable."),
]
Report = Annotated[
    Path | None,
    typer.Option(
        help="Folder for the report; default: .reports in the repository's folder, of a URL in the "
        "working directory."
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command()(canary)
    app.command()(shadow)


def canary(
    version: Annotated[int, typer.Argument(help="Version to try out.")],
    share: Share = "10%",
    duration: Duration = "10m",
    max_errors: MaxErrors = "1%",
    max_latency_ratio: MaxLatencyRatio = 1.5,
    min_requests: MinRequests = 100,
    max_differ: MaxDiffer = "20%",
    max_psi: MaxPsi = 0.25,
    ignore: Ignore = None,
    metrics: Annotated[
        str,
        typer.Option(
            envvar="SERVABLE_GATEWAY_METRICS",
            help="URL of the metrics of `servable gateway-metrics`.",
        ),
    ] = "http://127.0.0.1:9145/metrics",
    mirror: Mirror = MIRROR,
    report: Report = None,
    model: Model = DEFAULT_MODEL,
    repository: Folder = None,
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
    latency are compared with those of stable. The same share of all requests, gRPC included, is
    mirrored: both versions are asked, and their answers compared. However the trial ends, the share
    is 0 afterwards.
    """
    from servable_serving.canary.trial import PROMOTED, CanaryFailed, CanaryTrial, run_trial
    from servable_serving.release.steps import Steps

    rules = _rules(
        share, duration, max_errors, max_latency_ratio, min_requests, max_differ, max_psi, ignore
    )
    access = Access(api_key=api_key, token=token, ca=ca, certificate=certificate, key=key)
    steps = Steps()
    with _site(model, repository, server, False, access, timeout) as site:
        trial = CanaryTrial.plan(version, site, rules)
        with _reported(trial, report or site.reports):
            run_trial(trial, site, steps, metrics=metrics, mirror=mirror, tell=_sparsely(steps.say))
    won = trial.outcome == PROMOTED
    _tell(trial, steps, json, f"version {version} is stable: {trial.reason}" if won else "")
    if not won:
        raise CanaryFailed(
            f"version {version} of {trial.model} was withdrawn: {trial.reason}",
            hint=f"{trial.report} has the figures",
        )


def shadow(
    version: Annotated[int, typer.Argument(help="Version to try out.")],
    share: MirroredShare = "100%",
    duration: Duration = "10m",
    max_errors: MaxErrors = "1%",
    max_latency_ratio: MaxLatencyRatio = 1.5,
    min_requests: MinRequests = 100,
    max_differ: MaxDiffer = "20%",
    max_psi: MaxPsi = 0.25,
    ignore: Ignore = None,
    mirror: Mirror = MIRROR,
    report: Report = None,
    model: Model = DEFAULT_MODEL,
    repository: Folder = None,
    server: Server = DEFAULT_SERVER,
    api_key: Key = None,
    token: Token = None,
    ca: CaBundle = None,
    certificate: Certificate = None,
    key: PrivateKey = None,
    timeout: StepTimeout = STEP_TIMEOUT,
    json: Json = False,
) -> None:
    """Ask a version what clients ask stable, and compare the answers, which no client gets.

    The gateway mirrors the requests, over gRPC and REST, to `servable gateway-metrics`, which asks
    both versions. The report has agreement, differing examples and latency; no label moves. Exit
    status 1 if the version breaks a limit.
    """
    from servable_serving.canary.shadow_trial import PASSED, ShadowFailed, ShadowTrial, run_shadow
    from servable_serving.release.steps import Steps

    rules = _rules(
        share, duration, max_errors, max_latency_ratio, min_requests, max_differ, max_psi, ignore
    )
    access = Access(api_key=api_key, token=token, ca=ca, certificate=certificate, key=key)
    steps = Steps()
    with _site(model, repository, server, True, access, timeout) as site:
        trial = ShadowTrial.plan(version, site, rules)
        with (
            servers_at(server, shadow_name(trial.model), access) as servers,
            _reported(trial, report or site.reports),
        ):
            aside = site.aside(servers)
            run_shadow(trial, aside, steps, mirror=mirror, tell=_sparsely(steps.say))
    won = trial.outcome == PASSED
    _tell(trial, steps, json, trial.reason if won else "")
    if not won:
        raise ShadowFailed(
            f"version {version} of {trial.model} failed in the shadow of version {trial.against}: "
            f"{trial.reason}",
            hint=f"{trial.report} has the figures",
        )


@contextmanager
def _site(
    model: str, repository: str | None, server: str, no_wait: bool, access: Access, timeout: float
) -> Iterator[Site]:
    """Where the trial takes place: in a folder, or in a repository behind a URL."""
    from servable_serving.canary.site import FolderSite, RemoteSite

    if is_url(repository):
        exit_on_signals()
        remote = remote_at(repository)
        with nullcontext() if no_wait else servers_at(server, model, access) as servers:
            yield RemoteSite(remote=remote, folder=model, servers=servers, timeout=timeout)
        return
    with release(model, repository, server, no_wait, access, timeout) as deployment:
        yield FolderSite(deployment)


@contextmanager
def _reported(trial: CanaryTrial | ShadowTrial, folder: Path) -> Iterator[None]:
    """Write the report of a trial that took place, however it ends."""
    from servable_client.cli.console import say
    from servable_serving.canary.report import write_report

    try:
        yield
    finally:
        if trial.reason:
            write_report(trial, folder)
            say(f"wrote the report {trial.report}")


def _tell(trial: CanaryTrial | ShadowTrial, steps: Steps, json: bool, success: str) -> None:
    """Print the result: as JSON, or what to say if it was a success."""
    from servable_client.cli.console import print_json

    if json:
        print_json({**trial.as_json(), "steps": steps.as_json()})
    elif success:
        typer.echo(success)


def _rules(
    share: float,
    duration: float,
    max_errors: float,
    max_latency_ratio: float,
    min_requests: int,
    max_differ: float,
    max_psi: float,
    ignore: list[str] | None,
) -> PromotionRules:
    from servable_serving.canary.rules import PromotionRules

    return PromotionRules(
        percent=share,
        seconds=duration,
        max_errors=max_errors,
        max_latency_ratio=max_latency_ratio,
        min_requests=min_requests,
        every=min(2.0, max(duration / 30, 0.2)),
        max_differ=max_differ,
        max_psi=max_psi,
        ignore=tuple(ignore or ()),
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
