"""`servable gateway` and `servable gateway-metrics`."""

from __future__ import annotations

from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the sub-commands to `app`."""
    app.command("gateway")(gateway)
    app.command("gateway-metrics")(gateway_metrics)


def gateway() -> None:
    """Run the gateway: nginx with TLS, API keys and limits in front of the servers.

    All settings are SERVABLE_* variables, see docs/gateway.md.
    """
    import logging
    import os
    import sys

    # Imported first: if it is missing, the error names the extra that installs both.
    import cryptography  # noqa: F401

    from servable_serving.gateway.errors import GatewayError
    from servable_serving.gateway.settings import Settings
    from servable_serving.gateway.supervise import run_gateway

    logging.basicConfig(
        level=logging.INFO,
        stream=sys.stderr,
        format="%(asctime)s gateway: %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S%z",
    )
    os.umask(0o077)  # the files it writes contain API keys and the private key
    try:
        status = run_gateway(Settings.from_environment(os.environ))
    except GatewayError as error:
        logging.getLogger("servable.gateway").error("%s", error)  # noqa: TRY400
        status = error.exit_status
    raise typer.Exit(status)


def gateway_metrics(
    port: Annotated[
        int, typer.Option(help="HTTP port of the metrics page.", min=0, max=65535)
    ] = 9145,
    syslog_port: Annotated[
        int, typer.Option(help="UDP port for the gateway's messages.", min=0, max=65535)
    ] = 5145,
    host: Annotated[
        str, typer.Option(envvar="SERVABLE_HOST", help="Bind address of both ports.")
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
            f" the gateway's messages at UDP {host}:{listener.syslog_port}"
        )
        stop.wait()
