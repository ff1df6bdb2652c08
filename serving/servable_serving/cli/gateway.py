"""`servable gateway`, `servable gateway-metrics` and `servable drift`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from servable_client.cli.options import Json
from servable_serving.cli.options import MIRROR, Mirror, duration


def register(app: typer.Typer) -> None:
    """Add the sub-commands to `app`."""
    app.command("gateway")(gateway)
    app.command("gateway-metrics")(gateway_metrics)
    app.command("drift")(drift)


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
    models_root: Annotated[
        Path | None,
        typer.Option(
            envvar="SERVABLE_MODELS_ROOT",
            help="Folder of the models, whose manifests say what answers are expected (default: no "
            "drift is measured).",
        ),
    ] = None,
    window: Annotated[
        Any,
        typer.Option(
            parser=duration,
            metavar="TIME",
            help="Time whose answers are compared with the expected ones, e.g. 10m, 1h.",
        ),
    ] = "10m",
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
    `servable shadow` and `servable canary`, and count the answers to a share of all requests, for
    `servable drift`.
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
            from servable_serving.mirror.drift import Drift
            from servable_serving.mirror.references import References
            from servable_serving.mirror.server import MirrorServer
            from servable_serving.mirror.worker import Mirror as MirrorQueue

            drift = Drift(References(models_root), window=window)
            listener.metrics.registry.register(drift)
            servers = Servers(upstream, grpc_port=upstream_grpc_port, rest_port=upstream_rest_port)
            mirror = stack.enter_context(
                MirrorServer(MirrorQueue(servers, drift), drift, host=host, port=mirror_port)
            )
            say(f"mirrored requests at http://{host}:{mirror.port}, asked of {upstream}")
        say(
            f"metrics at http://{host}:{listener.port}/metrics,"
            f" the gateway's messages at UDP {host}:{listener.syslog_port}"
        )
        stop.wait()


def drift(
    model: Annotated[
        str | None, typer.Option(help="Model whose versions to show (default: all).")
    ] = None,
    mirror: Mirror = MIRROR,
    json: Json = False,
) -> None:
    """Compare the latest inputs and answers with those expected by the version's manifest.

    The gateway mirrors a share of the requests (SERVABLE_OBSERVE) to `servable gateway-metrics`,
    which counts classes, confidences, brightness and contrast; no input is kept. Exit status 1 if a
    distribution has moved beyond its limit.
    """
    from servable_client.cli.console import print_json, print_table, say
    from servable_serving.canary.mirror_meter import read_mirror
    from servable_serving.mirror.errors import Drifted

    found = [one for one in read_mirror(mirror, "drift") if model in (None, one["model"])]
    if json:
        print_json(found)
    elif not found:
        say("no request was observed; SERVABLE_OBSERVE of the gateway sets their share")
    for one in found if not json else ():
        print_table(
            ("of", "PSI", "limit", "KS", "rows", ""),
            [
                (
                    shift["of"], shift["psi"], shift["limit"], shift["ks"], shift["count"],
                    "drifted" if shift["drifted"] else "",
                )
                for shift in one["shifts"]
            ],
            title=f"version {one['version']} of {one['model']}: {one['rows']} rows in "
            f"{one['window_seconds']:.0f} s"
            + ("" if one["reference"] else "; its manifest has no reference"),
        )  # fmt: skip
    drifted = [
        f"{shift['of']} of version {one['version']} of {one['model']}"
        for one in found
        for shift in one["shifts"]
        if shift["drifted"]
    ]
    if drifted:
        raise Drifted(
            f"what is asked or answered has moved away from the reference: {', '.join(drifted)}",
            hint="look at the inputs, and retrain if they are right",
        )
