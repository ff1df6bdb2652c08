"""Options that several sub-commands share."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from servable_client.cli.hints import for_command

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
        parser=lambda text: read_secret(text, "--api-key"),
        metavar="TEXT|@FILE",
        show_default=False,
        help="API key (x-api-key header); prefer SERVABLE_API_KEY or a file.",
    ),
]
Token = Annotated[
    str | None,
    typer.Option(
        envvar="SERVABLE_TOKEN",
        parser=lambda text: read_secret(text, "--token"),
        metavar="TEXT|@FILE",
        show_default=False,
        help="Bearer token (authorization header); prefer SERVABLE_TOKEN or a file.",
    ),
]
CaBundle = Annotated[
    str | None,
    typer.Option(
        "--ca",
        envvar="SERVABLE_CA",
        metavar="FILE",
        help="CA certificate bundle (PEM), for grpcs and https.",
    ),
]
Certificate = Annotated[
    str | None,
    typer.Option(
        "--certificate",
        envvar="SERVABLE_CLIENT_CERTIFICATE",
        metavar="FILE",
        help="Client certificate (PEM), for servers that require one; with --key.",
    ),
]
PrivateKey = Annotated[
    str | None,
    typer.Option(
        "--key",
        envvar="SERVABLE_CLIENT_KEY",
        metavar="FILE",
        help="Private key of --certificate (PEM), unencrypted.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Output as JSON.")]
Timeout = Annotated[float, typer.Option(help="Request timeout in seconds.", min=0.001)]
DEFAULT_SERVER, DEFAULT_MODEL = "grpc://localhost:8500", "fashion_mnist"


@dataclass(frozen=True, kw_only=True)
class Access:
    """What the servers at an address ask for, as the options give it.

    Attributes:
        api_key: The API key.
        token: The bearer token.
        ca: The CA certificate bundle.
        certificate: The client certificate.
        key: The private key of that.
    """

    api_key: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    ca: str | None = None
    certificate: str | None = None
    key: str | None = None

    def arguments(self) -> dict[str, Any]:
        """The arguments of a client.

        Raises:
            InvalidInput: One of `certificate` and `key` is missing.
        """
        from servable_client import TLS

        files = {"ca": self.ca, "certificate": self.certificate, "key": self.key}
        tls = TLS(**files) if any(file is not None for file in files.values()) else None
        return {"api_key": self.api_key, "token": self.token, "tls": tls}


def read_secret(text: str, option: str) -> str:
    """A secret as it is given: itself, or @FILE with it in the file.

    Raises:
        typer.BadParameter: The file cannot be read.
    """
    if not text.startswith("@"):
        return text
    try:
        return Path(text[1:]).read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise typer.BadParameter(f"cannot read {text[1:]}: {reason}", param_hint=option) from error


def make_client(server: str, access: Access, **options: Any) -> Client:
    """A client; settings that it refuses are a usage error, exit status 2."""
    from servable_client import Client, InvalidInput

    try:
        return Client(server, **access.arguments(), **options)
    except InvalidInput as error:
        raise usage_error(error) from None


def usage_error(error: ServableError, **options: Any) -> typer.BadParameter:
    """Turn an error that the caller made into a usage error, exit status 2."""
    hint = for_command(error.hint)
    return typer.BadParameter(f"{error}; {hint}" if hint else str(error), **options)
