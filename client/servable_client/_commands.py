"""The sub-commands that ask a server."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from servable_client import Client
    from servable_client._answers import Classification

Server = Annotated[
    str, typer.Option(envvar="SERVABLE_SERVER", help="Address: grpc, grpcs, http or https.")
]
Model = Annotated[str, typer.Option(envvar="SERVABLE_MODEL", help="The model's name.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]
Timeout = Annotated[float, typer.Option(help="Seconds that a call may take.", min=0.001)]

_SERVER, _MODEL = "grpc://localhost:8500", "fashion_mnist"


def register(app: typer.Typer) -> None:
    """Add the sub-commands to `app`."""
    app.command()(classify)
    app.command()(status)
    app.command()(wait)


def classify(
    pictures: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Picture files.")],
    server: Server = _SERVER,
    model: Model = _MODEL,
    version: Annotated[int | None, typer.Option(help="The version to ask.")] = None,
    label: Annotated[str | None, typer.Option(help="The label of the version to ask.")] = None,
    timeout: Timeout = 5.0,
    json: Json = False,
) -> None:
    """Ask a server what pictures show."""
    from servable_client._console import print_json, print_table

    with _client(server, model=model, version=version, label=label, timeout=timeout) as client:
        answers = [(picture, client.classify(picture)) for picture in pictures]
    if json:
        print_json([{"picture": picture, **_plain(answer)} for picture, answer in answers])
    else:
        print_table(
            ("picture", "label", "probability", "version", "ms"),
            [
                (name, a.label, a.probability, a.version or "-", f"{a.elapsed * 1000:.1f}")
                for name, a in answers
            ],
        )


def _plain(answer: Classification) -> dict[str, object]:
    return {
        "label": answer.label,
        "class_id": answer.class_id,
        "probability": answer.probability,
        "probabilities": answer.probabilities.tolist(),
        "version": answer.version,
        "elapsed": answer.elapsed,
    }


def status(
    server: Server = _SERVER,
    model: Model = _MODEL,
    timeout: Timeout = 5.0,
    json: Json = False,
) -> None:
    """Show the versions of a model, their states, and its signatures."""
    from servable_client import ModelNotFound
    from servable_client._console import print_json, print_table

    with _client(server, model=model, timeout=timeout) as client:
        versions = client.status()
        try:
            signatures = client.metadata()
        except ModelNotFound:
            signatures = {}  # known to the server, with no version available
    if json:
        print_json(
            {
                "model": model,
                "versions": [asdict(version) for version in versions],
                "signatures": {name: asdict(value) for name, value in signatures.items()},
            }
        )
        return
    print_table(
        ("version", "state", "error"),
        [(v.version, v.state, v.error_message if v.error_code != "OK" else "") for v in versions],
        title=model,
    )
    print_table(
        ("signature", "inputs", "outputs"),
        [
            (
                name,
                ", ".join(f"{k} {v.dtype} {_shape(v.shape)}" for k, v in s.inputs.items()),
                ", ".join(f"{k} {v.dtype} {_shape(v.shape)}" for k, v in s.outputs.items()),
            )
            for name, s in sorted(signatures.items())
        ],
    )


def _shape(shape: tuple[int, ...] | None) -> str:
    if shape is None:
        return "any shape"
    return "[" + ", ".join("N" if size == -1 else str(size) for size in shape) + "]"


def wait(
    server: Server = _SERVER,
    model: Model = _MODEL,
    version: Annotated[int | None, typer.Option(help="The version to wait for.")] = None,
    timeout: Annotated[float, typer.Option(help="Seconds to wait in all.", min=0)] = 60.0,
    json: Json = False,
) -> None:
    """Wait until a server serves a model, or a version of it."""
    from servable_client._console import print_json

    with _client(server, model=model) as client:
        found = client.wait_until_available(version, timeout=timeout)
    if json:
        print_json({"model": model, "version": found})
    else:
        typer.echo(f"{model} version {found} is available at {server}")


def _client(server: str, **options: Any) -> Client:
    """A client; what it refuses was asked wrongly, which is exit status 2."""
    from servable_client import Client, InvalidInput

    try:
        return Client(server, **options)
    except InvalidInput as error:
        raise typer.BadParameter(f"{error}; {error.hint}" if error.hint else str(error)) from None
