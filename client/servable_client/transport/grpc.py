"""Channels to gRPC servers, for threads and for asyncio."""

from __future__ import annotations

import asyncio
import os
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import grpc

from servable_client._errors import InvalidInput
from servable_client.codec.grpc import (
    NOT_ONE_MESSAGE,
    GrpcRequest,
    delay_of,
    refuses_retry,
    request_id_of,
)
from servable_client.transport.renewing import Renewing
from servable_client.types.operations import Failure

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    ("grpc.max_reconnect_backoff_ms", 1000),
    # By default a name is not resolved again for 30 s after it was, though the server has moved.
    ("grpc.dns_min_time_between_resolutions_ms", 1000),
    # Detect a peer that vanished. Not more often: gRPC servers disconnect clients that ping more
    # than once in five minutes ("too_many_pings").
    ("grpc.keepalive_time_ms", 301_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # The engine retries: a second layer of retries would multiply them.
    ("grpc.enable_retries", 0),
    # Two clients of one address have a connection each.
    ("grpc.use_local_subchannel_pool", 1),
]


# How the core of grpcio ends the reason of a connection to a server of HTTP/1; it has no code.
_HTTP1 = "Trying to connect an http1.x server"

# How long a fork waits for calls in progress.
_DRAIN_SECONDS = 5.0


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


class _Forks:
    """Lets a fork wait until no call of grpcio is in progress.

    Otherwise its handlers of forks do nothing, calls of the child wait for threads that it does
    not have, and the parent may crash:
    https://github.com/grpc/grpc/blob/master/doc/fork_support.md
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._calls = 0
        # The threads of grpcio that end calls, and then themselves.
        self._ending: set[threading.Thread] = set()
        self._is_forking = False
        self._is_usable = True
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(
                before=self._before,
                after_in_parent=self._after_in_parent,
                after_in_child=self._after_in_child,
            )

    def begin(self) -> None:
        """Note that a call begins; wait for a fork in progress."""
        with self._changed:
            while self._is_forking:
                self._changed.wait()
            self._calls += 1

    def end(self) -> None:
        """Note that a call has ended."""
        with self._changed:
            self._calls -= 1
            if not self._calls:
                self._changed.notify_all()

    def end_in_thread(self, _: object) -> None:
        """Note, in a thread of grpcio, that a call has ended."""
        current = threading.current_thread()
        if current not in self._ending:
            self._ending = {thread for thread in self._ending if thread.is_alive()} | {current}
        self.end()

    def _before(self) -> None:
        with self._changed:
            self._is_forking = True
            self._changed.wait_for(lambda: not self._calls, _DRAIN_SECONDS)
        for thread in self._ending - {threading.current_thread()}:
            thread.join(_DRAIN_SECONDS)

    def _after_in_parent(self) -> None:
        with self._changed:
            self._is_forking = False
            self._changed.notify_all()

    def _after_in_child(self) -> None:
        self._changed = threading.Condition()
        self._is_usable = self._is_usable and not self._calls
        self._calls, self._ending, self._is_forking = 0, set(), False

    def check(self) -> None:
        """Check that grpcio can be used.

        Raises:
            InvalidInput: It cannot.
        """
        if not self._is_usable:
            raise InvalidInput(
                "grpcio cannot be used in a process that was forked during a call",
                hint="start processes by spawn, fork before the first call, install the extra "
                "`fast`, or use REST: http://",
            )


_forks = _Forks()


class _Channel:
    """A channel of grpcio, and its cached callables."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.channel = channel
        self.calls: dict[str, Any] = {}


class _Renewing:
    """A channel to one server, which is replaced after a call that nothing answered."""

    def __init__(
        self, endpoint: Endpoint, tls: TLS | None, proxy: Proxy | None, *, trust_env: bool
    ) -> None:
        _forks.check()
        self._address = endpoint.address
        self._credentials = None if tls is None else tls.grpc_credentials()
        self._options = _options(endpoint, tls, proxy, trust_env=trust_env)
        self._channels = Renewing(self._open)

    def _open(self) -> _Channel:
        return _Channel(
            grpc.insecure_channel(self._address, self._options)
            if self._credentials is None
            else grpc.secure_channel(self._address, self._credentials, self._options)
        )

    @contextmanager
    def _begun(self, path: str) -> Iterator[Any]:
        """What calls a method; the errors of grpcio within the block become failures."""
        held = self._channels.begin()
        channel = held.value
        try:
            call = channel.calls.get(path)
            if call is None:
                call = channel.calls[path] = channel.channel.unary_unary(path, None, None)
            yield call
        except grpc.RpcError as error:
            failure = _failure(error, closed=self._channels.closed)
            if failure.timed_out:
                self._channels.renew(held)
            raise failure from error
        finally:
            if self._channels.end(held):
                channel.channel.close()

    def close(self) -> None:
        """Close the channel; calls in progress fail."""
        self._channels.close().channel.close()


class GrpcChannel(_Renewing):
    """A channel to one server, for threads."""

    def send(self, request: GrpcRequest, timeout: float) -> bytes:
        """Send a request once.

        Raises:
            Failure: The attempt failed.
        """
        with self._begun(request.path) as call:
            _forks.begin()
            try:
                answer = call(request.body, timeout=timeout, metadata=request.metadata)
            finally:
                _forks.end()
            return _message(answer)


class AsyncGrpcChannel(_Renewing):
    """A channel to one server, for asyncio.

    Not of `grpc.aio`, whose thread serves one event loop at a time and is gone after a fork.
    """

    async def send(self, request: GrpcRequest, timeout: float) -> bytes:
        """Send a request once.

        Raises:
            Failure: The attempt failed.
        """
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()

        def end() -> None:
            if not ended.done():
                ended.set_result(None)

        def notify(_: object) -> None:
            with suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(end)

        with self._begun(request.path) as call:
            _forks.begin()
            future = call.future(request.body, timeout=timeout, metadata=request.metadata)
            future.add_done_callback(_forks.end_in_thread)
            future.add_done_callback(notify)
            try:
                await ended
            except asyncio.CancelledError:
                future.cancel()
                raise
            return _message(future.result())

    async def aclose(self) -> None:
        """Close the channel; calls in progress fail."""
        self.close()


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
    trailers = error.trailing_metadata() or ()
    return Failure(
        code,
        details,
        retry_after=delay_of(trailers),
        refuses_retry=refuses_retry(trailers),
        request_id=request_id_of((*trailers, *(error.initial_metadata() or ()))),
        unreachable=code in ("UNAVAILABLE", "DEADLINE_EXCEEDED"),
        other_protocol=code == "UNAVAILABLE" and _HTTP1 in details,
    )
