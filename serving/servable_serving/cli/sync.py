"""The sub-commands for repositories behind a URL."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeGuard

import typer

from servable_client.cli.commands import Json, asked_wrongly

if TYPE_CHECKING:
    from servable_serving.release.push import Plan
    from servable_serving.repository.remote import Remote

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def register(app: typer.Typer) -> None:
    """Add the sub-commands to `app`."""
    app.command()(sync)


def sync(
    url: Annotated[str, typer.Argument(help="The repository: s3://bucket/models, or its like.")],
    models: Annotated[Path, typer.Argument(help="The folder that servers read.")],
    every: Annotated[
        str | None, typer.Option(help="Go on: look again after so long, 5s for example.")
    ] = None,
    delete: Annotated[
        bool, typer.Option("--delete", help="Take versions away that models.config dropped.")
    ] = False,
    server: Annotated[
        str | None,
        typer.Option(help="The server that reads the folder, to move labels when it has loaded."),
    ] = None,
    metrics_port: Annotated[
        int, typer.Option(help="With --every: Prometheus metrics at this port; 0: none.", min=0)
    ] = 0,
    metrics_host: Annotated[str, typer.Option(help="Where that port is.")] = "127.0.0.1",
    log_json: Annotated[bool, typer.Option("--log-json", help="Log JSON objects.")] = False,
    json: Json = False,
) -> None:
    """Bring a remote model repository here: versions whole and checked, models.config last.

    Once, or with --every until SIGTERM, as the companion of a server that cannot read the
    repository itself. What fails then is logged once and tried again; what is here stays.
    """
    import logging
    import signal

    from servable_client import Client, InvalidInput
    from servable_client.cli.console import print_json
    from servable_serving.core.logs import log_to_stderr
    from servable_serving.repository.sync import Mirror, Stopped

    if every is None and metrics_port:
        raise typer.BadParameter("is for --every", param_hint="--metrics-port")
    seconds = None if every is None else _seconds(every)
    try:
        if server is not None:
            Client(server, model="any")  # an address that is none was asked wrongly
        mirror = Mirror(url, models, delete=delete, server=server)
    except InvalidInput as error:
        raise asked_wrongly(error) from None
    log_to_stderr(as_json=log_json)
    # The stores' libraries tell of each connection.
    logging.getLogger().setLevel(logging.WARNING)
    logging.getLogger("servable").setLevel(logging.INFO)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: mirror.stop())
    if seconds is not None:
        from servable_serving.repository.sync_metrics import SyncMetrics

        mirror.keep(seconds, told=SyncMetrics(metrics_port, metrics_host).tell)
        return
    try:
        changes = mirror.sync()
    except Stopped:
        raise typer.Exit(1) from None
    if json:
        print_json({"url": mirror.url, "models": str(models), **changes.as_json()})
    else:
        n = len(changes.pulled)
        typer.echo(
            f"{models} is as {mirror.url} is: {n} version{'s' * (n != 1)} came"
            + (f", {len(changes.deleted)} went" if delete else "")
        )


def is_url(repository: str | None) -> TypeGuard[str]:
    """Whether a repository is behind a URL, and not a folder."""
    return repository is not None and "://" in repository


def push_to_url(candidate: Path, url: str, name: str, plan: Plan, *, json: bool) -> None:
    """Bring a candidate into a repository behind a URL: gates, upload, label.

    It is compared with what `stable` stands for there.

    Raises:
        GateError: It does not pass a gate.
        CandidateError: It is not whole, or not as it was exported.
        StoreError: The repository cannot be reached or written.
        ModelsConfigError: Its models.config is none.
    """
    import tempfile

    from servable_client.cli.console import print_json
    from servable_serving.core.names import CANARY, STABLE
    from servable_serving.release.push import ask_gates
    from servable_serving.release.steps import Steps

    if plan.version is not None:
        raise typer.BadParameter(
            "is for folders; behind a URL it is the next", param_hint="--version"
        )
    remote, steps = _remote(url), Steps()

    stable = remote.labels(name).get(STABLE)
    with tempfile.TemporaryDirectory() as folder:
        if stable is not None:
            with steps.step("fetch") as step:
                remote.fetch(name, stable, Path(folder))
                step.said = f"version {stable}, which is stable, to compare with"
        about = ask_gates(candidate, None if stable is None else Path(folder), steps, plan)
    if plan.dry_run:
        if json:
            print_json({"repository": remote.url, "version": None, "steps": steps.as_json()})
        else:
            typer.echo(f"{candidate} passes; nothing was published")
        return
    with steps.step("upload") as step:
        version = remote.push(candidate, about=about)
        step.said = f"version {version} is whole at {remote.url}"
    with steps.step("label") as step:
        # Moved by one change of models.config, which servers apply when the version is loaded.
        label = STABLE if plan.promote or stable is None else CANARY
        labels = remote.label(name, version, label)
        step.said = f"{label} is version {version}"
    if json:
        print_json(
            {
                "repository": remote.url,
                "version": version,
                "labels": labels,
                "steps": steps.as_json(),
            }
        )
    else:
        typer.echo(f"{candidate} is version {version} of {name} at {remote.url}, {label}")


def move_at_url(url: str, model: str, version: int, *, json: bool) -> None:
    """Have `stable` stand for a version in a repository behind a URL.

    Raises:
        StoreError: The version is not whole there, or models.config cannot be written.
        ModelsConfigError: models.config is none.
    """
    from servable_client.cli.console import print_json
    from servable_serving.core.names import STABLE

    remote = _remote(url)
    labels = remote.label(model, version, STABLE)
    if json:
        print_json({"repository": remote.url, "version": version, "labels": labels})
    else:
        typer.echo(f"{STABLE} is version {version} of {model} at {remote.url}")


def _remote(url: str) -> Remote:
    """A repository behind a URL; one that is none was asked wrongly, which is exit status 2."""
    from servable_client import InvalidInput
    from servable_serving.repository.remote import Remote

    try:
        return Remote(url)
    except InvalidInput as error:
        raise asked_wrongly(error, param_hint="--repository") from None


def _seconds(text: str) -> float:
    found = _DURATION.fullmatch(text.strip())
    seconds = float(found[1]) * _UNITS[found[2]] if found else 0.0
    if not seconds:
        raise typer.BadParameter(f"{text!r} is no time; give 5s, or 1m", param_hint="--every")
    return seconds
