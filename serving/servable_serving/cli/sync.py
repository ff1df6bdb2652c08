"""The sub-commands for repositories behind a URL."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from servable_client.cli.options import Json, usage_error
from servable_serving.cli.options import duration


def register(app: typer.Typer) -> None:
    """Add the sub-commands to `app`."""
    app.command()(sync)


def sync(
    url: Annotated[str, typer.Argument(help="The repository: s3://bucket/models, or its like.")],
    models: Annotated[Path, typer.Argument(help="The folder that servers read.")],
    every: Annotated[
        Any,
        typer.Option(
            parser=duration, metavar="TIME", help="Keep syncing at this interval, e.g. 5s."
        ),
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
    try:
        if server is not None:
            Client(server, model="any")  # an address that is none was asked wrongly
        mirror = Mirror(url, models, delete=delete, server=server)
    except InvalidInput as error:
        raise usage_error(error) from None
    log_to_stderr(as_json=log_json)
    # The stores' libraries tell of each connection.
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
            f"{models} is as {mirror.url} is: {n} version{'s' * (n != 1)} came"
            + (f", {len(changes.deleted)} went" if delete else "")
        )
