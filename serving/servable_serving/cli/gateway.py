"""`servable gateway-metrics`."""

from __future__ import annotations

from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the sub-command to `app`."""
    app.command("gateway-metrics")(gateway_metrics)


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
