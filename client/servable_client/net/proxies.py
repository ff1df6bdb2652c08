"""HTTP proxies, given or from the environment."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

from servable_client._errors import InvalidInput

if TYPE_CHECKING:
    from servable_client.net.endpoints import Endpoint

_PORTS = {"http": 80, "https": 443}
_HINT = "write it as http://proxy.example:3128"


@dataclass(frozen=True, kw_only=True)
class Proxy:
    """An HTTP proxy.

    Attributes:
        url: `scheme://host:port`; https if the connection to the proxy itself uses TLS.
        user: The user for basic authentication, or None.
        password: The password for basic authentication.
    """

    url: str
    user: str | None = None
    password: str = field(default="", repr=False)

    @property
    def full(self) -> str:
        """The address with user and password."""
        if self.user is None:
            return self.url
        scheme, _, place = self.url.partition("://")
        return f"{scheme}://{quote(self.user, safe='')}:{quote(self.password, safe='')}@{place}"


def without_password(proxy: str) -> str:
    """The address of a proxy without the password, if it has one.

    Raises:
        InvalidInput: It is malformed.
    """
    found = _parse(proxy, "the value of `proxy`")
    return replace(found, password="").full if found.password else proxy


def proxy_for(endpoint: Endpoint, given: str | None, *, trust_env: bool) -> Proxy | None:
    """The proxy for an endpoint, or None.

    The environment is read for REST only: grpcio reads it itself.

    Raises:
        InvalidInput: The address of the proxy is invalid.
    """
    # A server on this machine is not reachable from a proxy.
    if endpoint.loopback:
        return None
    if given is not None:
        proxy = _parse(given, "the value of `proxy`")
        if endpoint.grpc and not proxy.url.startswith("http://"):
            raise InvalidInput(
                "gRPC supports only proxies without TLS",
                hint="write it as http://..., or use REST",
            )
        return proxy
    if endpoint.grpc or not trust_env:
        return None
    # The environment variables, and on macOS and Windows the system settings.
    from urllib.request import getproxies, proxy_bypass

    listed = getproxies()
    found = listed.get(endpoint.scheme) or listed.get("all")
    if not found or proxy_bypass(endpoint.address):
        return None
    name = f"{endpoint.scheme}_proxy" if listed.get(endpoint.scheme) else "all_proxy"
    return _parse(found, f"the value of the variable {name}")


def _parse(text: str, what: str) -> Proxy:
    # The address must not be part of a message: it may contain a password.
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        raise InvalidInput(f"{what} is malformed", hint=_HINT) from None
    if parts.scheme not in _PORTS or not host or port == 0 or parts.path.strip("/"):
        raise InvalidInput(f"{what} is not a valid HTTP proxy address", hint=_HINT)
    place = f"[{host}]" if ":" in host else host
    return Proxy(
        url=f"{parts.scheme}://{place}:{_PORTS[parts.scheme] if port is None else port}",
        user=None if parts.username is None else unquote(parts.username),
        password=unquote(parts.password or ""),
    )
