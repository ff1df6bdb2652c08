"""Calls over libcurl, for threads.

libcurl makes a call in the calling thread, whereas grpcio hands it to threads of its own and back,
which takes more processor time than the rest of a call (benchmarks/client.py). Concurrent calls
have a connection each; idle connections are reused.

Proxies are not supported here; grpcio and httpcore are used for them.
"""

from __future__ import annotations

import select
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Generic, TypeVar

from servable_client.transport.curl_exchange import ErrorStatus, Exchange, client_closed
from servable_client.types.operations import Failure

if TYPE_CHECKING:
    from collections.abc import Callable

_Request = TypeVar("_Request")
_Reply = TypeVar("_Reply")

# How often a waiting call checks whether the client was closed.
_CLOSE_CHECK_MS = 250


class CurlChannel(Generic[_Request, _Reply]):
    """The connections to one server; thread-safe.

    Args:
        exchange: Makes what is sent over a connection.
    """

    def __init__(self, exchange: Callable[[], Exchange[_Request, _Reply]]) -> None:
        self._exchange = exchange
        self._idle: list[_Connection[_Request, _Reply]] = []
        self.closed = False

    def send(self, request: _Request, timeout: float) -> _Reply:
        """Send a request once.

        Raises:
            Failure: The attempt failed.
        """
        began = time.monotonic()
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = _Connection(self._exchange())
        try:
            reply = connection.send(request, timeout, self)
        except ErrorStatus:
            # The server responded, so the connection is usable.
            self._keep(connection)
            raise
        except BaseException as error:
            # Also after a timeout: libcurl would keep an HTTP/2 connection that may be dead.
            connection.close()
            if isinstance(error, Failure) and error.unreachable:
                self._drop_unused_since(began)
            raise
        self._keep(connection)
        return reply

    def _keep(self, connection: _Connection[_Request, _Reply]) -> None:
        connection.used = time.monotonic()
        self._idle.append(connection)
        if self.closed:
            self.close()

    def _drop_unused_since(self, moment: float) -> None:
        """Close the connections that nothing has answered over since a moment.

        Their peer is as gone as that of the call that failed, and each would cost a call.
        """
        kept = []
        with suppress(IndexError):
            while True:
                connection = self._idle.pop()
                if connection.used > moment:
                    kept.append(connection)
                else:
                    connection.close()
        self._idle += reversed(kept)
        if self.closed:
            self.close()

    def close(self) -> None:
        """Close all connections; calls in progress fail."""
        self.closed = True
        while self._idle:
            try:
                self._idle.pop().close()
            except IndexError:
                return  # another thread was faster


class _Connection(Generic[_Request, _Reply]):
    """A connection, for one call at a time.

    `perform` of libcurl would wait without letting Python handle signals, so the waiting is done
    here: https://curl.se/libcurl/c/libcurl-multi.html, "the multi_socket API".
    """

    # When a response came over it last, by time.monotonic.
    used = 0.0

    def __init__(self, exchange: Exchange[_Request, _Reply]) -> None:
        import pycurl

        self._curl = pycurl
        self._poll = select.poll()
        self._wanted = {
            pycurl.POLL_IN: select.POLLIN,
            pycurl.POLL_OUT: select.POLLOUT,
            pycurl.POLL_INOUT: select.POLLIN | select.POLLOUT,
        }
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        self._exchange = exchange

    def send(
        self, request: _Request, timeout: float, channel: CurlChannel[_Request, _Reply]
    ) -> _Reply:
        """Send a request, and return the response.

        Raises:
            ErrorStatus: The server responded with an error status.
            Failure: There was no response.
        """
        exchange = self._exchange
        exchange.prepare(request, timeout)
        self._perform(channel)
        return exchange.reply()

    def _perform(self, channel: CurlChannel[_Request, _Reply]) -> None:
        curl, multi, wait = self._curl, self._multi, self._poll.poll
        multi.add_handle(self._exchange.handle)
        _, running = multi.socket_action(curl.SOCKET_TIMEOUT, 0)
        while running:
            due = multi.timeout()  # milliseconds, -1 for never
            ready = wait(_CLOSE_CHECK_MS if due < 0 else min(due, _CLOSE_CHECK_MS))
            if channel.closed:
                raise client_closed()
            if not ready:
                _, running = multi.socket_action(curl.SOCKET_TIMEOUT, 0)
            for descriptor, events in ready:
                _, running = multi.socket_action(
                    descriptor,
                    (curl.CSELECT_IN if events & ~select.POLLOUT else 0)
                    | (curl.CSELECT_OUT if events & select.POLLOUT else 0),
                )
        _, _, failed = multi.info_read()
        multi.remove_handle(self._exchange.handle)
        if failed:
            raise self._exchange.failure(failed[0][1], failed[0][2])

    def _watch(self, what: int, descriptor: int, *_: object) -> None:
        """Watch a socket for libcurl, for reading, writing, both or no longer."""
        wanted = self._wanted.get(what)
        if wanted is None:
            self._poll.unregister(descriptor)
        else:
            self._poll.register(descriptor, wanted)

    def close(self) -> None:
        """Close the connection."""
        self._multi.close()
        self._exchange.close()
