"""The servers behind an address, each of which a release must reach.

A name may stand for several addresses, as that of a headless service of Kubernetes does, and a
gateway balances over several servers: it passes a request with the header `x-servable-server` to
the one with that number.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Protocol

from servable_client import (
    AccessDenied,
    ConnectionFailed,
    DeadlineExceeded,
    InvalidInput,
    ServableError,
)
from servable_client.net.endpoints import Endpoint, parse_servers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from servable_serving.release.server_group import ReleaseClient

SERVER_NUMBER = "x-servable-server"
_MOST = 100
# The gateway's, to a number that no server has.
_NO_SUCH_SERVER = "OUT_OF_RANGE"


class Connect(Protocol):
    """Makes a client."""

    def __call__(
        self, address: str, *, name: str | None = None, number: int | None = None
    ) -> ReleaseClient:
        """A client of an address.

        Args:
            address: With its scheme.
            name: The expected name in the certificate; that of the address unless given.
            number: The number of the server behind the gateway at this address; 0 for none.
        """


def addresses_of(host: str, port: int) -> list[str]:
    """The addresses of a name, sorted; of IPv6 if it has none of IPv4, none if it is unknown."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            found = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            continue
        # A server that has an address of each kind counts once.
        return sorted({str(where[0]) for *_, where in found})
    return []


class Replicas:
    """The servers behind addresses, found anew each time: they may come and go.

    Args:
        address: The addresses, separated by commas.
        connect: Makes a client.
        lookup: The IP addresses of a host and a port.

    Raises:
        InvalidInput: An address is not valid.
    """

    def __init__(
        self,
        address: str,
        *,
        connect: Connect,
        lookup: Callable[[str, int], list[str]] = addresses_of,
    ) -> None:
        self._endpoints = parse_servers(address)
        self._connect, self._lookup = connect, lookup
        self._clients: dict[tuple[str, str | None, int | None], ReleaseClient] = {}
        self._gateways: dict[str, bool] = {}
        for endpoint in self._endpoints:
            self._client(endpoint.url)  # so that an invalid argument is found now

    def find(self) -> list[ReleaseClient]:
        """A client for each server."""
        return [
            client
            for endpoint in self._endpoints
            for address, name in self._addresses(endpoint)
            for client in self._behind(address, name)
        ]

    def close(self) -> None:
        """Close all connections."""
        for client in self._clients.values():
            client.close()

    def _addresses(self, endpoint: Endpoint) -> list[tuple[str, str | None]]:
        """The address of each server with this name, and the name that its certificate has."""
        if endpoint.loopback:
            return [(endpoint.url, None)]
        found = self._lookup(endpoint.host, endpoint.port)
        if len(found) < 2:
            return [(endpoint.url, None)]
        name = endpoint.host if endpoint.secure else None
        each = [
            (Endpoint(scheme=endpoint.scheme, host=one, port=endpoint.port).url, name)
            for one in found
        ]
        try:
            for one in each:
                self._client(*one)
        except InvalidInput:  # through a proxy, for example, which takes no other name
            return [(endpoint.url, None)]
        return each

    def _behind(self, address: str, name: str | None) -> Iterator[ReleaseClient]:
        if not self._is_gateway(address, name):
            yield self._client(address, name)
            return
        for number in range(1, _MOST + 1):
            client = self._client(address, name, number)
            if _code(client) == _NO_SUCH_SERVER:
                if number == 1:  # it says so itself
                    yield self._client(address, name)
                return
            yield client

    def _is_gateway(self, address: str, name: str | None) -> bool:
        known = self._gateways.get(address)
        if known is not None:
            return known
        code = _code(self._client(address, name, 0))
        if code is not None:
            self._gateways[address] = code == _NO_SUCH_SERVER
        return code == _NO_SUCH_SERVER

    def _client(
        self, address: str, name: str | None = None, number: int | None = None
    ) -> ReleaseClient:
        key = (address, name, number)
        if key not in self._clients:
            self._clients[key] = self._connect(address, name=name, number=number)
        return self._clients[key]


def _code(client: ReleaseClient) -> str | None:
    """The status code of a request to a server; None if it does not say who it is."""
    try:
        client.status()
    except (AccessDenied, ConnectionFailed, DeadlineExceeded):
        return None
    except ServableError as error:
        return error.code or "UNKNOWN"
    return "OK"
