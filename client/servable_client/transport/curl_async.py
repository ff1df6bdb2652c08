"""Calls over libcurl, for asyncio.

libcurl works within the event loop, which watches its sockets and its timer:
https://curl.se/libcurl/c/libcurl-multi.html, "the multi_socket API". Concurrent calls of gRPC share
a connection, as those of grpcio do; those of REST have a connection each.
"""

from __future__ import annotations

import asyncio
import select
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from weakref import WeakMethod, finalize

from servable_client.transport.curl_exchange import Exchange, client_closed
from servable_client.types.operations import Failure

if TYPE_CHECKING:
    from collections.abc import Callable

_Request = TypeVar("_Request")
_Reply = TypeVar("_Reply")

# How many handles are kept for further calls.
_MAX_IDLE = 100


class AsyncCurlChannel(Generic[_Request, _Reply]):
    """The connections to one server, for one event loop.

    Args:
        exchange: Makes what is sent over a connection.
    """

    def __init__(self, exchange: Callable[[], Exchange[_Request, _Reply]]) -> None:
        self._exchange = exchange
        self._idle: list[Exchange[_Request, _Reply]] = []
        self._closed = False
        self._connections = _Connections(asyncio.get_running_loop())

    async def send(self, request: _Request, timeout: float) -> _Reply:
        """Send a request once.

        Raises:
            Failure: The attempt failed.
        """
        exchange = self._idle.pop() if self._idle else self._exchange()
        connections = self._connections
        exchange.prepare(request, timeout)
        try:
            await connections.perform(exchange)
        except Failure as failure:
            if failure.unreachable:
                self._renew(connections)
            exchange.close()
            raise
        except BaseException:
            exchange.close()
            raise
        try:
            return exchange.reply()
        finally:
            if len(self._idle) < _MAX_IDLE and not self._closed:
                self._idle.append(exchange)
            else:
                exchange.close()

    def _renew(self, silent: _Connections) -> None:
        """Use other connections from now on.

        libcurl would go on with a connection whose peer is silent, as it cannot know whether that
        is dead or slow, and with the address of a host that it has resolved a moment ago. Calls in
        progress are not touched.
        """
        if silent is self._connections and not self._closed:
            self._connections = _Connections(asyncio.get_running_loop())
            silent.retire()

    async def aclose(self) -> None:
        """Close all connections; calls in progress fail."""
        self._closed = True
        self._connections.close()
        while self._idle:
            self._idle.pop().close()


class _Connections:
    """Connections that libcurl opens, shares between calls, and closes; in an event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        import pycurl

        self._curl = pycurl
        self._loop = loop
        self._waiting: dict[Any, tuple[Exchange[Any, Any], asyncio.Future[None]]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._retired = self._closed = False
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        self._multi.setopt(pycurl.M_PIPELINING, pycurl.PIPE_MULTIPLEX)
        # The loop watches this, and this the sockets: libcurl begins and ends to watch a socket in
        # each call, which cost the loop a fifth of the processor time of a call.
        self._sockets = select.epoll()
        self._wanted = {
            pycurl.POLL_IN: select.EPOLLIN,
            pycurl.POLL_OUT: select.EPOLLOUT,
            pycurl.POLL_INOUT: select.EPOLLIN | select.EPOLLOUT,
        }
        # A client that is garbage-collected without `aclose` must not stay in the loop.
        loop.add_reader(self._sockets, _weakly(self._ready))
        self._wake_weakly = _weakly(self._wake)
        self._finalizer = finalize(self, _unwatch_later, loop, self._sockets)
        self._finalizer.atexit = False

    async def perform(self, exchange: Exchange[Any, Any]) -> None:
        """Wait until a prepared exchange is complete.

        Raises:
            Failure: There was no response.
        """
        future: asyncio.Future[None] = self._loop.create_future()
        self._waiting[exchange.handle] = exchange, future
        self._multi.add_handle(exchange.handle)
        self._act(self._curl.SOCKET_TIMEOUT, 0)
        try:
            await future
        finally:
            if self._waiting.pop(exchange.handle, None):  # cancelled
                self._multi.remove_handle(exchange.handle)
            if self._retired and not self._waiting:
                self.close()

    def _ready(self) -> None:
        """Let libcurl work, after sockets became ready."""
        curl = self._curl
        for descriptor, events in self._sockets.poll(0):
            self._act(
                descriptor,
                (curl.CSELECT_IN if events & ~select.EPOLLOUT else 0)
                | (curl.CSELECT_OUT if events & select.EPOLLOUT else 0),
            )

    def _act(self, descriptor: int, events: int) -> None:
        """Let libcurl work, after a socket became ready or its timer expired."""
        _, running = self._multi.socket_action(descriptor, events)
        if running < len(self._waiting):
            self._collect()
        if self._waiting:
            due = self._multi.timeout()
            if due >= 0:
                self._wake_in(due / 1000)

    def _collect(self) -> None:
        """Wake up the calls that are complete."""
        left = 1
        while left:
            left, complete, failed = self._multi.info_read()
            for handle, code, reason in [*((handle, 0, "") for handle in complete), *failed]:
                self._multi.remove_handle(handle)
                exchange, future = self._waiting.pop(handle)
                if future.done():
                    continue
                if code:
                    future.set_exception(exchange.failure(code, reason))
                else:
                    future.set_result(None)

    def _wake_in(self, seconds: float) -> None:
        """Let libcurl work after a while; a timer that is due earlier is kept."""
        at = self._loop.time() + seconds
        if self._timer is not None:
            if self._timer.when() <= at:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(at, self._wake_weakly)

    def _wake(self) -> None:
        self._timer = None
        if self._waiting:
            self._act(self._curl.SOCKET_TIMEOUT, 0)

    def _watch(self, what: int, descriptor: int, *_: object) -> None:
        """Watch a socket for libcurl, for reading, writing, both or no longer."""
        wanted = self._wanted.get(what)
        if wanted is None:
            with suppress(OSError):  # it was closed
                self._sockets.unregister(descriptor)
            return
        try:
            self._sockets.register(descriptor, wanted)
        except FileExistsError:
            self._sockets.modify(descriptor, wanted)

    def retire(self) -> None:
        """Close the connections as soon as no call uses them."""
        self._retired = True
        if not self._waiting:
            self.close()

    def close(self) -> None:
        """Close the connections; calls in progress fail."""
        if self._closed:
            return
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        waiting, self._waiting = self._waiting, {}
        for handle, (_, future) in waiting.items():
            self._multi.remove_handle(handle)
            if not future.done():
                future.set_exception(client_closed())
        self._multi.close()
        self._finalizer.detach()
        _unwatch(self._loop, self._sockets)


def _weakly(method: Callable[[], None]) -> Callable[[], None]:
    """A function that calls a method, and does not keep its object."""
    held = WeakMethod(method)

    def call() -> None:
        found = held()
        if found is not None:
            found()

    return call


def _unwatch_later(loop: asyncio.AbstractEventLoop, sockets: select.epoll) -> None:
    """Unwatch, from any thread."""
    try:
        loop.call_soon_threadsafe(_unwatch, loop, sockets)
    except RuntimeError:  # the loop is closed
        sockets.close()


def _unwatch(loop: asyncio.AbstractEventLoop, sockets: select.epoll) -> None:
    if not loop.is_closed():
        loop.remove_reader(sockets)
    sockets.close()
