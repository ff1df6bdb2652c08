"""Connections to HTTP servers, for threads and for asyncio.

httpcore, the basis of httpx, pools connections and has the same API for both. Its timeouts apply
to each wait; here the deadline of a call applies to the whole call.
"""

from __future__ import annotations

import asyncio
import socket
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import httpcore

from servable_client.codec.http import HttpReply, HttpRequest
from servable_client.transport.renewing import Renewing
from servable_client.types.operations import Failure

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable

    from servable_client.net.endpoints import Endpoint
    from servable_client.net.proxies import Proxy
    from servable_client.net.security import TLS

# An address that drops packets must not take all of the time of a call.
_CONNECT_SECONDS = 3.0
# Shorter than the idle timeouts of load balancers.
_IDLE_SECONDS = 50.0
_SOCKET_OPTIONS = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]

_deadline: ContextVar[float] = ContextVar("deadline")


class _DeadlineStream(httpcore.NetworkStream):
    """A connection of which each wait ends at the deadline of the current call."""

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002
        return self._stream.read(max_bytes, _left(httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        self._stream.write(buffer, _left(httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        left = min(timeout or _CONNECT_SECONDS, _left(httpcore.ConnectTimeout))
        return _DeadlineStream(self._stream.start_tls(ssl_context, server_hostname, left))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _left(error: type[Exception]) -> float:
    left = _deadline.get() - time.monotonic()
    if left <= 0:
        raise error("deadline exceeded")
    return left


class _DeadlineBackend(httpcore.NetworkBackend):
    """Opens connections with a deadline."""

    def __init__(self) -> None:
        self._backend = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        left = min(timeout or _CONNECT_SECONDS, _left(httpcore.ConnectTimeout))
        return _DeadlineStream(
            self._backend.connect_tcp(host, port, left, local_address, socket_options)
        )


class _Address:
    """The settings that both kinds of connection pool share."""

    def __init__(self, endpoint: Endpoint, tls: TLS | None, proxy: Proxy | None) -> None:
        self._scheme = endpoint.scheme.encode()
        self._host = endpoint.host.encode()
        self._port = endpoint.port
        self.options: dict[str, Any] = {
            "ssl_context": None if tls is None else tls.ssl_context(),
            # As many as there are concurrent calls, which the caller controls.
            "max_connections": None,
            "max_keepalive_connections": 100,
            "keepalive_expiry": _IDLE_SECONDS,
            "socket_options": _SOCKET_OPTIONS,
            "proxy": None if proxy is None else _proxy(proxy),
        }
        self._sni = {} if tls is None or not tls.server_name else {"sni_hostname": tls.server_name}

    def arguments(self, request: HttpRequest, timeout: float) -> dict[str, Any]:
        """The arguments for httpcore."""
        return {
            "method": b"GET" if request.body is None else b"POST",
            "url": httpcore.URL(
                scheme=self._scheme,
                host=self._host,
                port=self._port,
                target=request.path.encode("ascii"),
            ),
            "headers": request.headers,
            "content": request.body,
            "extensions": {
                "timeout": {
                    "connect": min(timeout, _CONNECT_SECONDS),
                    "read": timeout,
                    "write": timeout,
                    "pool": timeout,
                },
                **self._sni,
            },
        }


class HttpPool:
    """Connections to one server; thread-safe."""

    def __init__(self, endpoint: Endpoint, tls: TLS | None, proxy: Proxy | None) -> None:
        self._address = address = _Address(endpoint, tls, proxy)
        self._pools = Renewing(
            lambda: httpcore.ConnectionPool(network_backend=_DeadlineBackend(), **address.options)
        )

    def send(self, request: HttpRequest, timeout: float) -> HttpReply:
        """Send a request once.

        Raises:
            Failure: The attempt failed.
        """
        deadline = time.monotonic() + timeout
        token = _deadline.set(deadline)
        held = self._pools.begin()
        try:
            reply = held.value.request(**self._address.arguments(request, timeout))
        except (*_ERRORS, OSError, UnicodeError) as error:
            failure = _failure(error, late=time.monotonic() >= deadline)
            if failure.unreachable:
                self._pools.renew(held)
            raise failure from error
        finally:
            _deadline.reset(token)
            if self._pools.end(held):
                held.value.close()
        return HttpReply(reply.status, reply.headers, reply.content)

    def close(self) -> None:
        """Close all connections."""
        self._pools.close().close()


class AsyncHttpPool:
    """Connections to one server, for one event loop."""

    def __init__(self, endpoint: Endpoint, tls: TLS | None, proxy: Proxy | None) -> None:
        self._address = address = _Address(endpoint, tls, proxy)
        self._pools = Renewing(lambda: httpcore.AsyncConnectionPool(**address.options))

    async def send(self, request: HttpRequest, timeout: float) -> HttpReply:
        """Send a request once.

        Raises:
            Failure: The attempt failed.
        """
        deadline = time.monotonic() + timeout
        held = self._pools.begin()
        try:
            async with asyncio.timeout(timeout):
                reply = await held.value.request(**self._address.arguments(request, timeout))
        except (*_ERRORS, OSError, UnicodeError) as error:
            late = isinstance(error, TimeoutError) or time.monotonic() >= deadline
            failure = _failure(error, late=late)
            if failure.unreachable:
                self._pools.renew(held)
            raise failure from error
        finally:
            if self._pools.end(held):
                await held.value.aclose()
        return HttpReply(reply.status, reply.headers, reply.content)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._pools.close().aclose()


def _proxy(proxy: Proxy) -> httpcore.Proxy:
    return httpcore.Proxy(
        proxy.url,
        auth=None if proxy.user is None else (proxy.user.encode(), proxy.password.encode()),
    )


_ERRORS = (
    httpcore.ProxyError,
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.UnsupportedProtocol,
    httpcore.ConnectionNotAvailable,
)


def _failure(error: Exception, *, late: bool) -> Failure:
    waited = isinstance(error, httpcore.ReadTimeout | httpcore.WriteTimeout | httpcore.PoolTimeout)
    if late or waited:
        return Failure("DEADLINE_EXCEEDED", "deadline exceeded", unreachable=True, expired=True)
    if isinstance(error, httpcore.ProxyError):
        return Failure("UNAVAILABLE", f"the proxy refused: {error}", unreachable=True)
    return Failure(
        "UNAVAILABLE",
        str(error) or type(error).__name__,
        unreachable=True,
        untrusted=_is_untrusted(error),
        other_protocol=_is_other_protocol(error),
    )


def _is_other_protocol(error: Exception) -> bool:
    """Whether a server answered, but not in HTTP/1.

    The error then contains that of the parser; that of a closed connection contains text.
    """
    return isinstance(error, httpcore.RemoteProtocolError) and isinstance(
        error.args[0] if error.args else None, Exception
    )


def _is_untrusted(error: BaseException | None) -> bool:
    # The errors of httpcore contain that of the standard library, as a cause or a context.
    import ssl

    while error is not None and not isinstance(error, ssl.SSLCertVerificationError):
        error = error.__cause__ or error.__context__
    return error is not None
