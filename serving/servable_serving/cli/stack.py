"""The sub-commands that bring the whole stack up and down."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from servable_client.cli.options import DEFAULT_MODEL, Json, Model


def register(app: typer.Typer) -> None:
    """Add the sub-commands to `app`."""
    app.command()(up)
    app.command()(down)


def up(
    models: Annotated[
        Path, typer.Option(help="The model repository, with its models.config.")
    ] = Path("models"),
    model: Model = DEFAULT_MODEL,
    embedded: Annotated[
        bool, typer.Option("--embedded", help="The embedded server, even where Docker is.")
    ] = False,
    port: Annotated[
        int, typer.Option(help="The embedded server's port for gRPC.", min=1, max=65535)
    ] = 8500,
    rest_api_port: Annotated[
        int, typer.Option(help="And for REST and the page.", min=1, max=65535)
    ] = 8501,
    timeout: Annotated[
        float, typer.Option(help="Seconds until the model must be available.", min=1)
    ] = 300.0,
    json: Json = False,
) -> None:
    """Serve the model repository in the background, and wait until the model is available.

    With `docker compose` where a Docker Engine answers and docker-compose.yml lies here; else with
    the embedded server, at the same ports. What is up already is left as it is.
    """
    from servable_client.cli.console import print_json, say
    from servable_serving.stack.background import Background
    from servable_serving.stack.compose import Compose

    background, compose = Background(), Compose.here()
    if not embedded and not background.runs() and compose is not None and compose.answers():
        addresses = compose.up(models, model, timeout)
    else:
        addresses = background.up(
            models, model, port=port, rest_port=rest_api_port, timeout=timeout
        )
    if json:
        print_json(addresses)
    else:
        tls = f", TLS for both at {addresses['tls']}" if addresses["tls"] else ""
        say(
            f"{model} is available, by {addresses['by']}: gRPC at {addresses['grpc']}, REST and "
            f"the page at {addresses['rest']}{tls}"
        )
        say("end it with: servable down")


def down(json: Json = False) -> None:
    """End what `servable up` began; a volume with a certificate and metrics is kept."""
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
        say(f"ended: {' and '.join(ended)}" if ended else "nothing was up")
