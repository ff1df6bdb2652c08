"""TLS and credentials."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from servable_client._errors import InvalidInput
from servable_client.types.arguments import check_type

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    import grpc

    from servable_client.net.endpoints import Endpoint

# A secret, or a function that returns the current one, called for each attempt. None, which a
# function such as `partial(os.getenv, "API_KEY")` may return, is refused.
Secret: TypeAlias = "str | Callable[[], str | None] | Callable[[], Awaitable[str | None]]"  # noqa: S105

_HEADER_NAME = re.compile(r"[0-9a-z_.-]+")
_OWN_HEADERS = frozenset(
    ("accept", "connection", "content-encoding", "content-length", "content-type", "expect", "host",
     "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "user-agent")
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TLS:
    """The TLS settings for `grpcs` and `https`.

    Attributes:
        ca: A CA certificate bundle (PEM), in place of the well-known authorities.
        certificate: The client certificate (PEM), for servers that require mutual TLS; with
            `key`.
        key: The private key of the client certificate (PEM), unencrypted.
        server_name: The expected name in the server certificate, if it differs from the
            address.

    Raises:
        InvalidInput: One of `certificate` and `key` is missing.

    Example:
        >>> tls = TLS(ca="ca.pem", certificate="client.pem", key="client.key")
    """

    ca: str | Path | None = None
    certificate: str | Path | None = None
    key: str | Path | None = field(default=None, repr=False)
    server_name: str | None = None

    def __post_init__(self) -> None:
        for name in ("ca", "certificate", "key"):
            check_type(name, getattr(self, name), str | PathLike | None, "the path of a PEM file")
        check_type("server_name", self.server_name, str | None, "text")
        if (self.certificate is None) != (self.key is None):
            raise InvalidInput(
                "mutual TLS requires both a certificate and its key", hint="pass both, or neither"
            )

    def check(self) -> None:
        """Read the files, so that mistakes are found before the first call.

        Raises:
            InvalidInput: A file cannot be read, or is not a valid certificate or key.
        """
        self.ssl_context()

    def ssl_context(self) -> ssl.SSLContext:
        """The context for HTTP."""
        import ssl

        for path in (self.ca, self.certificate, self.key):
            if path is not None:
                _read(path)
        try:
            context = ssl.create_default_context(cafile=self.ca)
        except (OSError, ValueError) as error:
            raise InvalidInput(f"{self.ca} is not a valid CA bundle: {error}") from error
        if self.ca is None:
            import certifi

            # The list of some systems is empty, or not where Python looks for it.
            context.load_verify_locations(certifi.where())
        if self.certificate is not None:
            try:
                # Without `password` OpenSSL would prompt for one.
                context.load_cert_chain(self.certificate, self.key, password="")
            except (OSError, ValueError) as error:
                raise InvalidInput(
                    f"{self.certificate} and its key do not match: {error}",
                    hint="pass PEM files, the key unencrypted",
                ) from error
        return context

    def grpc_credentials(self) -> grpc.ChannelCredentials:
        """The credentials for gRPC."""
        import grpc

        return grpc.ssl_channel_credentials(
            root_certificates=None if self.ca is None else _read(self.ca),
            private_key=None if self.key is None else _read(self.key),
            certificate_chain=None if self.certificate is None else _read(self.certificate),
        )


def _read(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InvalidInput(f"cannot read {path}: {reason}") from error


class Credentials:
    """The headers of each request: an API key or bearer token, and where they may be sent; others.

    Args:
        api_key: The API key.
        token: The bearer token.
        headers: Other headers, which are no secrets.

    Raises:
        InvalidInput: One is not a valid header.
    """

    def __init__(
        self,
        *,
        api_key: Secret | None,
        token: Secret | None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        for name, secret in (("api_key", api_key), ("token", token)):
            if not (secret is None or isinstance(secret, str) or callable(secret)):
                # Without its value, which may be a secret.
                raise InvalidInput(
                    f"{name} must be text, or a function that returns it, "
                    f"got a value of type {type(secret).__name__}"
                )
        self._secrets: list[tuple[str, str, str, Secret]] = []
        if api_key is not None:
            self._secrets.append(("x-api-key", "", "API key", api_key))
        if token is not None:
            self._secrets.append(("authorization", "Bearer ", "token", token))
        # Fixed secrets are checked once.
        fixed = [
            (name, prefix + checked_secret(secret, what))
            for name, prefix, what, secret in self._secrets
            if not callable(secret)
        ]
        self.others = checked_headers(headers)
        # All headers, if no secret is a function.
        self.fixed = (*fixed, *self.others) if len(fixed) == len(self._secrets) else None

    def __bool__(self) -> bool:
        return bool(self._secrets)

    @property
    def secrets(self) -> Iterable[tuple[str, str, str, Secret]]:
        """Header, prefix, display name, and the secret or its function."""
        return self._secrets

    def check_endpoints(self, endpoints: Iterable[Endpoint], *, plaintext: bool) -> None:
        """Check that secrets would not be sent in plaintext.

        Raises:
            InvalidInput: An endpoint without TLS is not on this machine.
        """
        if not self._secrets or plaintext:
            return
        for endpoint in endpoints:
            if not endpoint.secure and not endpoint.loopback:
                raise InvalidInput(
                    f"{endpoint.url} does not use TLS, so credentials would be sent in plaintext",
                    hint="use grpcs or https; on a private network, pass "
                    "`plaintext_credentials=True`",
                )


class LeftOut(Credentials):
    """The credentials of a client that was pickled without them: no call can be made.

    Args:
        arguments: The arguments that the pickle lacks.
    """

    def __init__(self, arguments: Sequence[str]) -> None:
        super().__init__(api_key=None, token=None)
        self.fixed = None
        self._arguments = " and ".join(f"`{name}`" for name in arguments)

    @property
    def secrets(self) -> Iterable[tuple[str, str, str, Secret]]:
        """Raise the error of each call."""
        raise InvalidInput(
            f"this client was pickled without the secret in {self._arguments}",
            hint="pass `pickle_secrets=True` to the original, or for a key or token a function "
            'that can be imported: partial(os.getenv, "API_KEY")',
        )


def checked_headers(headers: Mapping[str, str] | None) -> tuple[tuple[str, str], ...]:
    """Headers that both protocols can send, with their names in lower case.

    Raises:
        InvalidInput: A name or value is not valid, or the client sets that header itself.
    """
    check_type("headers", headers, Mapping | None, "a mapping of names to text")
    checked: dict[str, str] = {}
    for name, value in (headers or {}).items():
        check_type("the name of a header", name, str, "text")
        check_type(f"the header {name}", value, str, "text")
        lower = name.lower()
        # https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md, Custom-Metadata.
        if not _HEADER_NAME.fullmatch(lower) or lower.endswith("-bin"):
            raise InvalidInput(
                f"{name!r} is not a valid name of a header",
                hint="use letters, digits, hyphens, underscores and dots, and no -bin at the end",
            )
        if lower in ("x-api-key", "authorization"):
            raise InvalidInput(
                f"the header {name} is a credential", hint="pass it as `api_key` or `token`"
            )
        if lower in _OWN_HEADERS or lower.startswith("grpc-"):
            raise InvalidInput(f"the client sets the header {name} itself", hint="leave it out")
        if not value.isascii() or not (value.isprintable() and value == value.strip()):
            raise InvalidInput(
                f"the value of the header {name} is not printable ASCII text",
                hint="without surrounding whitespace and line breaks",
            )
        checked[lower] = value
    return tuple(checked.items())


def checked_secret(secret: object, what: str) -> str:
    """A secret that is a valid header value; the error does not contain it.

    Raises:
        InvalidInput: It is not.
    """
    if secret is None:
        raise InvalidInput(
            f"the function for the {what} returned None", hint="is the environment variable set?"
        )
    if not isinstance(secret, str) or not secret or not secret.isascii():
        raise InvalidInput(f"the {what} is not ASCII text")
    if not secret.isprintable() or secret != secret.strip():
        raise InvalidInput(
            f"the {what} contains line breaks or surrounding whitespace",
            hint="call `.strip()` on a value read from a file",
        )
    return secret
