"""Addresses of servers, and which one is asked next."""

from __future__ import annotations

import ipaddress
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from servable_client._errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

_PORTS = {"grpc": 8500, "grpcs": 8500, "http": 8501, "https": 8501}

# How long a dead address is left out: doubled with each failure in a row.
_FIRST_REST, _LONGEST_REST = 0.5, 15.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Endpoint:
    """The address of a server; equal to itself alone, so that it is looked up by identity.

    Attributes:
        scheme: grpc, grpcs, http or https.
        host: Its name or number; without brackets.
        port: Its port.
        url: The whole, as `scheme://host:port`.
        grpc: Whether it speaks gRPC, and not REST.
    """

    scheme: str
    host: str
    port: int
    url: str = field(init=False)
    grpc: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", f"{self.scheme}://{self.address}")
        object.__setattr__(self, "grpc", self.scheme.startswith("grpc"))

    @property
    def address(self) -> str:
        """`host:port`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def secure(self) -> bool:
        """Whether it speaks TLS."""
        return self.scheme in ("grpcs", "https")

    @property
    def loopback(self) -> bool:
        """Whether what is sent there stays on this machine."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost" or self.host.endswith(".localhost")


def parse_servers(servers: str | Sequence[str]) -> tuple[Endpoint, ...]:
    """The endpoints that addresses name: several in a list, or in one text with commas.

    Raises:
        InvalidInput: One is no address, or there is none.
    """
    listed = servers.split(",") if isinstance(servers, str) else list(servers)
    parsed = [_parse(server.strip()) for server in listed]
    endpoints = tuple({endpoint.url: endpoint for endpoint in parsed}.values())
    if not endpoints:
        raise InvalidInput("no server address given", hint=_HINT)
    return endpoints


_HINT = "write it as grpc://host:8500 or http://host:8501"


def _parse(server: str) -> Endpoint:
    try:
        parts = urlsplit(server)
        host, port = parts.hostname, parts.port
    except ValueError:
        # Neither the reason nor the address, which may hold a password.
        raise InvalidInput("malformed server address", hint=_HINT) from None
    if parts.username is not None or parts.password is not None:
        raise InvalidInput(
            "a server address must not contain a user or password",
            hint="pass credentials as `api_key=` or `token=`",
        )
    if (
        parts.scheme not in _PORTS
        or not host
        or port == 0
        or parts.path.strip("/")
        or parts.query
        or parts.fragment
    ):
        raise InvalidInput(f"invalid server address {server!r}", hint=_HINT)
    return Endpoint(
        scheme=parts.scheme, host=host, port=_PORTS[parts.scheme] if port is None else port
    )


@dataclass(slots=True)
class _Health:
    failures: int = 0
    rested: float = 0.0  # the time from which it is asked again


class Balancer:
    """Round robin over endpoints; a dead one is left out, and tried again after a while.

    It does no I/O: it is told how attempts went.

    Args:
        endpoints: At least one.
        now: The clock, in seconds.
    """

    def __init__(
        self, endpoints: Sequence[Endpoint], *, now: Callable[[], float] = time.monotonic
    ) -> None:
        self.endpoints = tuple(endpoints)
        self._now = now
        self._lock = threading.Lock()
        self._turn = 0
        self._health = {endpoint: _Health() for endpoint in self.endpoints}

    def pick(self, tried: Collection[Endpoint] = ()) -> Endpoint:
        """The one to ask next: alive and not tried yet, if there is one.

        Where all are dead it is the one whose rest ends first.
        """
        if len(self.endpoints) == 1:
            return self.endpoints[0]
        with self._lock:
            first, self._turn = self._turn, (self._turn + 1) % len(self.endpoints)
            now = self._now()
            turns = self.endpoints[first:] + self.endpoints[:first]
            for endpoint in turns:
                if endpoint not in tried and self._health[endpoint].rested <= now:
                    return endpoint
            untried = [endpoint for endpoint in turns if endpoint not in tried]
            return min(untried or turns, key=lambda e: self._health[e].rested)

    def fresh(self, tried: Collection[Endpoint]) -> bool:
        """Whether one is left that was not tried."""
        return any(endpoint not in tried for endpoint in self.endpoints)

    def failed(self, endpoint: Endpoint) -> bool:
        """An attempt found it dead; tell whether that is news."""
        health = self._health[endpoint]
        with self._lock:
            now = self._now()
            if health.rested > now:
                return False  # calls that were under way when it died count as one
            health.failures += 1
            rest = min(_LONGEST_REST, _FIRST_REST * 2.0 ** min(health.failures - 1, 60))
            health.rested = now + rest
            return health.failures == 1

    def answered(self, endpoint: Endpoint) -> None:
        """An attempt found it alive."""
        health = self._health[endpoint]
        if health.failures:
            with self._lock:
                health.failures, health.rested = 0, 0.0
