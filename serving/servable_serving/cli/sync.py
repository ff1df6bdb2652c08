"""`servable sync`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from servable_client.cli.options import (
    Access,
    CaBundle,
    Certificate,
    Json,
    Key,
    PrivateKey,
    Token,
    usage_error,
)
from servable_serving.cli.options import duration


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(sync)


def sync(
    url: Annotated[str, typer.Argument(help="Remote repository, e.g. s3://bucket/models.")],
    models: Annotated[Path, typer.Argument(help="Local folder that servers read.")],
    every: Annotated[
        Any,
        typer.Option(
            parser=duration, metavar="TIME", help="Keep syncing at this interval, e.g. 5s."
        ),
    ] = None,
    delete: Annotated[
        bool,
        typer.Option("--delete", help="Delete versions no longer referenced by models.config."),
    ] = False,
    server: Annotated[
        str | None,
        typer.Option(help="Server that reads the folder; labels move when it has loaded."),
    ] = None,
    api_key: Key = None,
    token: Token = None,
    ca: CaBundle = None,
    certificate: Certificate = None,
    key: PrivateKey = None,
    metrics_port: Annotated[
        int, typer.Option(help="Port for Prometheus metrics, with --every; 0 disables it.", min=0)
    ] = 0,
    metrics_host: Annotated[
        str, typer.Option(help="Bind address of the metrics port.")
    ] = "127.0.0.1",
    log_json: Annotated[bool, typer.Option("--log-json", help="Log as JSON objects.")] = False,
    json: Json = False,
) -> None:
    """Mirror a remote model repository in a folder.

    Versions are verified against their checksums, and models.config is written last. Runs once, or
    with --every until SIGTERM, beside a server that cannot read the repository itself; a failure
    is then logged once and retried, and the folder stays as it is.
    """
    import logging
    import signal

    from servable_client import InvalidInput
    from servable_client.cli.console import print_json
    from servable_serving.core.logs import log_to_stderr
    from servable_serving.repository.sync import Mirror, ServerAt, Stopped

    if every is None and metrics_port:
        raise typer.BadParameter("requires --every", param_hint="--metrics-port")
    access = Access(api_key=api_key, token=token, ca=ca, certificate=certificate, key=key)
    try:
        at = None if server is None else ServerAt(server, **access.arguments())
        mirror = Mirror(url, models, delete=delete, server=at)
    except InvalidInput as error:
        raise usage_error(error) from None
    log_to_stderr(as_json=log_json)
    # The stores' libraries log each connection.
    logging.getLogger().setLevel(logging.WARNING)
    logging.getLogger("servable").setLevel(logging.INFO)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: mirror.stop())
    if every is not None:
        from servable_serving.repository.sync_metrics import SyncMetrics

        mirror.keep(every, told=SyncMetrics(metrics_port, metrics_host).tell)
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
            f"{models} is in sync with {mirror.url}: pulled {n} version{'s' * (n != 1)}"
            + (f", deleted {len(changes.deleted)}" if delete else "")
        )
