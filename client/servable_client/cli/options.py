"""Options that several sub-commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from servable_client import Client, ServableError

Server = Annotated[
    str,
    typer.Option(
        envvar="SERVABLE_SERVER",
        help="Address: grpc, grpcs, http or https; several with commas.",
    ),
]
Model = Annotated[str, typer.Option(envvar="SERVABLE_MODEL", help="The model's name.")]
Version = Annotated[int | None, typer.Option(help="The version to ask.")]
Label = Annotated[str | None, typer.Option(help="The label of the version to ask.")]
Key = Annotated[
    str | None,
    typer.Option(
        envvar="SERVABLE_API_KEY", show_default=False, help="Sent as x-api-key; better by variable."
    ),
]
CaBundle = Annotated[
    str | None, typer.Option("--ca", help="PEM file of the authority to trust, for grpcs, https.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]
Timeout = Annotated[float, typer.Option(help="Seconds that a call may take.", min=0.001)]
DEFAULT_SERVER, DEFAULT_MODEL = "grpc://localhost:8500", "fashion_mnist"


def make_client(server: str, *, ca: str | None, **options: Any) -> Client:
    """A client; what it refuses was asked wrongly, which is exit status 2."""
    from servable_client import TLS, Client, InvalidInput

    try:
        return Client(server, tls=None if ca is None else TLS(ca=ca), **options)
    except InvalidInput as error:
        raise usage_error(error) from None


def usage_error(error: ServableError, **options: Any) -> typer.BadParameter:
    """What a command raises in place of an error that is the caller's, which is exit status 2."""
    return typer.BadParameter(f"{error}; {error.hint}" if error.hint else str(error), **options)
