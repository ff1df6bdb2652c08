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
        str, typer.Option(envvar="SERVABLE_HOST", help="Bind address of all ports.")
    ] = "127.0.0.1",
    upstream: Annotated[
        str | None,
        typer.Option(
            envvar="SERVABLE_UPSTREAM",
            help="Host of the model servers, to ask them the requests that the gateway mirrors "
            "(default: none are asked).",
        ),
    ] = None,
    upstream_grpc_port: Annotated[
        int,
        typer.Option(
            envvar="SERVABLE_UPSTREAM_GRPC_PORT", help="gRPC port of the servers.", min=1, max=65535
        ),
    ] = 8500,
    upstream_rest_port: Annotated[
        int,
        typer.Option(
            envvar="SERVABLE_UPSTREAM_REST_PORT", help="REST port of the servers.", min=1, max=65535
        ),
    ] = 8501,
    mirror_port: Annotated[
        int,
        typer.Option(
            envvar="SERVABLE_MIRROR_PORT",
            help="HTTP port for the requests that the gateway mirrors.",
            min=0,
            max=65535,
        ),
    ] = 9146,
) -> None:
    """Count the gateway's requests for Prometheus: syslog in, metrics out at /metrics.

    With --upstream, also ask two versions the requests that the gateway mirrors to it, for
    `servable shadow` and `servable canary`.
    """
    import signal
    import threading
    from contextlib import ExitStack

    from servable_client.cli.console import say
    from servable_serving.gateway.listener import GatewayListener

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with ExitStack() as stack:
        listener = stack.enter_context(
            GatewayListener(host=host, port=port, syslog_port=syslog_port)
        )
        if upstream:
            from servable_serving.mirror.ask import Servers
            from servable_serving.mirror.server import MirrorServer
            from servable_serving.mirror.worker import Mirror

            servers = Servers(upstream, grpc_port=upstream_grpc_port, rest_port=upstream_rest_port)
            mirror = stack.enter_context(MirrorServer(Mirror(servers), host=host, port=mirror_port))
            say(f"mirrored requests at http://{host}:{mirror.port}, asked of {upstream}")
        say(
            f"metrics at http://{host}:{listener.port}/metrics,"
            f" the gateway's messages at UDP {host}:{listener.syslog_port}"
        )
        stop.wait()
