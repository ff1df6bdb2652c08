"""The sub-commands that serve, and that bring versions in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from servable_client._commands import Json


def quiet_tensorflow() -> None:
    """Keep TensorFlow's remarks on start to itself; call it before its first import.

    They tell of processor features and drivers; what goes wrong comes as an exception.
    """
    import os

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def register(app: typer.Typer) -> None:
    """Add the sub-commands to `app`."""
    app.command()(serve)
    app.command()(push)


def serve(
    model_name: Annotated[str, typer.Option("--model_name", help="The model's name.")] = "default",
    model_base_path: Annotated[
        Path | None, typer.Option("--model_base_path", help="The folder with the version folders.")
    ] = None,
    port: Annotated[
        int, typer.Option("--port", help="gRPC's port; 0 for none.", min=0, max=65535)
    ] = 8500,
    rest_api_port: Annotated[
        int, typer.Option("--rest_api_port", help="REST's port; 0 for none.", min=0, max=65535)
    ] = 0,
    file_system_poll_wait_seconds: Annotated[
        int,
        typer.Option(
            "--file_system_poll_wait_seconds", help="How often to look for versions; 0 looks once."
        ),
    ] = 1,
    host: Annotated[str, typer.Option("--host", help="The address to listen at.")] = "127.0.0.1",
) -> None:
    """Serve a model with tensorflow_model_server's flags."""
    import logging
    import signal

    if not model_name:
        raise typer.BadParameter("is empty", param_hint="--model_name")
    if model_base_path is None:
        raise typer.BadParameter("is required", param_hint="--model_base_path")
    quiet_tensorflow()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("tensorflow").setLevel(logging.WARNING)
    from servable_serving._server import Server

    server = Server(
        model_name,
        model_base_path,
        host=host,
        port=port,
        rest_port=rest_api_port,
        poll_seconds=file_system_poll_wait_seconds,
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: server.ask_to_stop())
    with server:
        if not server.stopping:
            logging.getLogger("servable.serving").info(
                "serving %s at %s, gRPC %d, REST %d", model_name, host, port, rest_api_port
            )
        server.wait()


def push(
    candidate: Annotated[Path, typer.Argument(help="A folder that `servable export` wrote.")],
    repository: Annotated[
        Path | None,
        typer.Option(help="The model's folder in the repository; models/NAME unless given."),
    ] = None,
    json: Json = False,
) -> None:
    """Bring a candidate into the model repository as its next version."""
    from servable_client._console import print_json
    from servable_serving._manifest import check_candidate
    from servable_serving._repository import Repository

    if repository is None:
        repository = Path("models") / str(check_candidate(candidate)["name"])
    version = Repository(repository).push(candidate)
    if json:
        print_json({"repository": str(repository), "version": version})
    else:
        typer.echo(f"{candidate} is version {version} in {repository}")
