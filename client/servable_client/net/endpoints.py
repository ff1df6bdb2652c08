"""Server addresses, and load balancing between them."""

from __future__ import annotations

import ipaddress
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from servable_client._errors import InvalidInput
from servable_client.types.arguments import check_type, refuse

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

_PORTS = {"grpc": 8500, "grpcs": 8500, "http": 8501, "https": 8501}

# How long an unavailable address is skipped: doubled with each consecutive failure.
_INITIAL_PAUSE, _MAX_PAUSE = 0.5, 15.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Endpoint:
    """The address of a server; compared by identity, which makes look-ups fast.

    Attributes:
        scheme: grpc, grpcs, http or https.
        host: The host name or IP address, without brackets.
        port: The port.
        url: The full address, `scheme://host:port`.
        grpc: Whether the protocol is gRPC, not REST.
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
        """Whether it uses TLS."""
        return self.scheme in ("grpcs", "https")

    @property
    def loopback(self) -> bool:
        """Whether it is on this machine."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost" or self.host.endswith(".localhost")


def parse_servers(servers: str | Sequence[str]) -> tuple[Endpoint, ...]:
    """Parse addresses: several in a list, or in one text separated by commas.

    Raises:
        InvalidInput: An address is invalid, or there is none.
    """
    wanted = "an address, or a list of addresses"
    if isinstance(servers, bytes | Mapping) or not isinstance(servers, Iterable):
        refuse("server", wanted, servers)
    listed = servers.split(",") if isinstance(servers, str) else list(servers)
    for server in listed:
        check_type("server", server, str, wanted)
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
        # Neither the reason nor the address, which may contain a password.
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
    retry_at: float = 0.0  # the time from which it is used again


class Balancer:
    """Round robin over endpoints; an unavailable one is skipped, and retried after a while.

    It does no I/O: the engine reports the outcome of each attempt.

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
        """The next endpoint: available and not tried yet, if there is one.

        If all are unavailable, it is the one whose pause ends first.
        """
        if len(self.endpoints) == 1:
            return self.endpoints[0]
        with self._lock:
            first, self._turn = self._turn, (self._turn + 1) % len(self.endpoints)
            now = self._now()
            turns = self.endpoints[first:] + self.endpoints[:first]
            for endpoint in turns:
                if endpoint not in tried and self._health[endpoint].retry_at <= now:
                    return endpoint
            untried = [endpoint for endpoint in turns if endpoint not in tried]
            return min(untried or turns, key=lambda e: self._health[e].retry_at)

    def has_untried(self, tried: Collection[Endpoint]) -> bool:
        """Whether an endpoint is left that was not tried."""
        return any(endpoint not in tried for endpoint in self.endpoints)

    def failed(self, endpoint: Endpoint) -> bool:
        """Note that an endpoint is unavailable; return whether it was available before."""
        health = self._health[endpoint]
        with self._lock:
            now = self._now()
            if health.retry_at > now:
                return False  # calls in progress when it went down count as one failure
            health.failures += 1
            pause = min(_MAX_PAUSE, _INITIAL_PAUSE * 2.0 ** min(health.failures - 1, 60))
            health.retry_at = now + pause
            return health.failures == 1

    def answered(self, endpoint: Endpoint) -> None:
        """Note that an endpoint responded."""
        health = self._health[endpoint]
        if health.failures:
            with self._lock:
                health.failures, health.retry_at = 0, 0.0
