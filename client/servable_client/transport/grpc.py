"""Channels to gRPC servers, for threads and for asyncio."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import grpc

from servable_client.codec.grpc import NOT_ONE_MESSAGE, GrpcRequest, delay_of
from servable_client.types.operations import Failure

if TYPE_CHECKING:
    from servable_client.net.endpoints import Endpoint
    from servable_client.net.proxies import Proxy
    from servable_client.net.security import TLS

_OPTIONS: list[tuple[str, Any]] = [
    # The default of 4 MiB is less than a batch of answers can take.
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # By default grpcio waits up to two minutes before it reconnects to a server, and 20 s for a
    # connection to be established.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 3000),
    ("grpc.max_reconnect_backoff_ms", 3000),
    # Detect a peer that vanished. Not more often: gRPC servers disconnect clients that ping more
    # than once in five minutes ("too_many_pings").
    ("grpc.keepalive_time_ms", 301_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # The engine retries: a second layer of retries would multiply them.
    ("grpc.enable_retries", 0),
    # Two clients of one address have a connection each.
    ("grpc.use_local_subchannel_pool", 1),
]


def _options(
    endpoint: Endpoint, tls: TLS | None, proxy: Proxy | None, *, trust_env: bool
) -> list[tuple[str, Any]]:
    options = list(_OPTIONS)
    if tls is not None and tls.server_name is not None:
        options.append(("grpc.ssl_target_name_override", tls.server_name))
        options.append(("grpc.default_authority", tls.server_name))
    if proxy is not None:
        options.append(("grpc.http_proxy", proxy.full))
    elif endpoint.loopback or not trust_env:
        options.append(("grpc.enable_http_proxy", 0))
    return options


class _Channel:
    """A channel of either kind, and its cached callables."""

    _kind: ClassVar[Any]

    def __init__(
        self, endpoint: Endpoint, tls: TLS | None, proxy: Proxy | None, *, trust_env: bool
    ) -> None:
        options = _options(endpoint, tls, proxy, trust_env=trust_env)
        self._channel = (
            self._kind.insecure_channel(endpoint.address, options)
            if tls is None
            else self._kind.secure_channel(endpoint.address, tls.grpc_credentials(), options)
        )
        self._calls: dict[str, Any] = {}
        self._closed = False

    def _call(self, path: str) -> Any:
        call = self._calls.get(path)
        if call is None:
            call = self._calls[path] = self._channel.unary_unary(path, None, None)
        return call


class GrpcChannel(_Channel):
    """A channel to one server; thread-safe."""

    _kind: ClassVar[Any] = grpc

    def send(self, request: GrpcRequest, timeout: float) -> bytes:
        """Send a request once.

        Raises:
            Failure: The attempt failed.
        """
        try:
            answer = self._call(request.path)(
                request.body, timeout=timeout, metadata=request.metadata
            )
        except grpc.RpcError as error:
            raise _failure(error, closed=self._closed) from error
        return _message(answer)

    def close(self) -> None:
        """Close the channel; calls in progress fail."""
        self._closed = True
        self._channel.close()


class AsyncGrpcChannel(_Channel):
    """A channel to one server, for one event loop."""

    _kind: ClassVar[Any] = grpc.aio

    async def send(self, request: GrpcRequest, timeout: float) -> bytes:
        """Send a request once.

        Raises:
            Failure: The attempt failed.
        """
        try:
            answer = await self._call(request.path)(
                request.body, timeout=timeout, metadata=request.metadata
            )
        except grpc.RpcError as error:
            raise _failure(error, closed=self._closed) from error
        return _message(answer)

    async def aclose(self) -> None:
        """Close the channel; calls in progress fail."""
        self._closed = True
        await self._channel.close(None)


def _message(answer: bytes | None) -> bytes:
    """The message of a call that ended well; grpcio gives None if none came."""
    if answer is None:
        raise Failure("INTERNAL", NOT_ONE_MESSAGE)
    return answer


def _failure(error: Any, *, closed: bool) -> Failure:
    code = error.code().name
    details = error.details() or "no reason given"
    # How grpcio ends the calls that are in progress when this side closes the channel.
    if code == "CANCELLED" and closed:
        code = "UNAVAILABLE"
    return Failure(
        code,
        details,
        retry_after=delay_of(error.trailing_metadata() or ()),
        unreachable=code in ("UNAVAILABLE", "DEADLINE_EXCEEDED"),
    )
