"""`servable up` and `servable down`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from servable_client.cli.options import DEFAULT_MODEL, Json, Model


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command()(up)
    app.command()(down)


def up(
    models: Annotated[Path, typer.Option(help="Model repository, with its models.config.")] = Path(
        "models"
    ),
    model: Model = DEFAULT_MODEL,
    embedded: Annotated[
        bool,
        typer.Option("--embedded", help="Use the embedded server even if Docker is available."),
    ] = False,
    port: Annotated[
        int, typer.Option(help="gRPC port of the embedded server.", min=1, max=65535)
    ] = 8500,
    rest_api_port: Annotated[
        int,
        typer.Option(
            help="Port of the embedded server for REST and the web page.", min=1, max=65535
        ),
    ] = 8501,
    timeout: Annotated[float, typer.Option(help="Startup timeout in seconds.", min=1)] = 300.0,
    json: Json = False,
) -> None:
    """Serve the model repository in the background, and wait until the model is available.

    Uses `docker compose` if a Docker Engine answers and docker-compose.yml is in this folder;
    otherwise the embedded server, at the same ports. What runs already is left as it is.
    """
    from servable_client._extras import require
    from servable_client.cli.console import print_json, say
    from servable_serving.stack.background import Background
    from servable_serving.stack.compose import Compose

    background, compose = Background(), Compose.here()
    if not embedded and not background.runs() and compose is not None and compose.answers():
        addresses = compose.up(models, model, timeout)
    else:
        if not background.runs():
            require("tensorflow")  # or only the log of the server would say that it is missing
        addresses = background.up(
            models, model, port=port, rest_port=rest_api_port, timeout=timeout
        )
    if json:
        print_json(addresses)
    else:
        tls = f", TLS for both at {addresses['tls']}" if addresses["tls"] else ""
        say(
            f"{model} is available, served by {addresses['by']}: gRPC at {addresses['grpc']}, "
            f"REST and the web page at {addresses['rest']}{tls}"
        )
        say("stop it with: servable down")


def down(json: Json = False) -> None:
    """Stop what `servable up` started; the volumes with the certificate and metrics are kept."""
    from servable_client.cli.console import print_json, say
    from servable_serving.stack.background import Background
    from servable_serving.stack.compose import Compose

    ended = []
    if Background().down():
        ended.append("the embedded server")
    compose = Compose.here()
    if compose is not None and compose.answers() and compose.down():
        ended.append("docker compose")
    if json:
        print_json({"ended": ended})
    else:
        say(f"stopped {' and '.join(ended)}" if ended else "nothing was running")
