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
        help="Server address (grpc, grpcs, http or https); several separated by commas.",
    ),
]
Model = Annotated[str, typer.Option(envvar="SERVABLE_MODEL", help="Model name.")]
Version = Annotated[int | None, typer.Option(help="Version to send requests to.")]
Label = Annotated[str | None, typer.Option(help="Label of the version to send requests to.")]
Key = Annotated[
    str | None,
    typer.Option(
        envvar="SERVABLE_API_KEY",
        show_default=False,
        help="API key (x-api-key header); prefer SERVABLE_API_KEY.",
    ),
]
CaBundle = Annotated[
    str | None, typer.Option("--ca", help="CA certificate bundle (PEM), for grpcs and https.")
]
Json = Annotated[bool, typer.Option("--json", help="Output as JSON.")]
Timeout = Annotated[float, typer.Option(help="Request timeout in seconds.", min=0.001)]
DEFAULT_SERVER, DEFAULT_MODEL = "grpc://localhost:8500", "fashion_mnist"


def make_client(server: str, *, ca: str | None, **options: Any) -> Client:
    """A client; settings that it refuses are a usage error, exit status 2."""
    from servable_client import TLS, Client, InvalidInput

    try:
        return Client(server, tls=None if ca is None else TLS(ca=ca), **options)
    except InvalidInput as error:
        raise usage_error(error) from None


def usage_error(error: ServableError, **options: Any) -> typer.BadParameter:
    """Turn an error that the caller made into a usage error, exit status 2."""
    return typer.BadParameter(f"{error}; {error.hint}" if error.hint else str(error), **options)
