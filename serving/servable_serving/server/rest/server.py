"""The server's REST side: https://www.tensorflow.org/tfx/serving/api_rest.

Paths, methods and words are those of TensorFlow Serving's http_rest_api_handler.cc,
http_server.cc and of libevent, over which it serves.
"""

from __future__ import annotations

import re
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from servable_serving.server.limits import STATE_THREADS
from servable_serving.server.rest.app import (
    CONNECTION,
    TARGET,
    Endpoint,
    head_of,
    page_of,
    status_of_invalid,
)
from servable_serving.server.rest.page import Page
from servable_serving.server.rest.service import RestService
from servable_serving.server.work_queue import WorkQueue

if TYPE_CHECKING:
    import asyncio
    import socket
    from collections.abc import Callable

    from starlette.types import ASGIApp

    from servable_serving.server.lifecycle.registry import Models
    from servable_serving.server.limits import Budget, Limits
    from servable_serving.server.telemetry import Metrics, RequestLog


_BACKLOG = 128


class RestServer:
    """uvicorn in a background thread.

    Args:
        models: The models.
        requests: Where requests are kept.
        threads: Maximum concurrent requests.
        limits: What requests and connections may cost.
        budget: The memory for large bodies.
        timeout: Seconds that a request may take.
        cors: Whether to enable CORS.
        metrics: The path of the metrics, and the metrics; not served unless given.
        web: Whether to serve the web page at "/", which TensorFlow Serving does not use.
        names: The server's own names, if pages of other hosts must not send it requests.
    """

    def __init__(
        self,
        models: Models,
        requests: RequestLog,
        *,
        threads: int,
        limits: Limits,
        budget: Budget,
        timeout: float,
        cors: bool = False,
        metrics: tuple[str, Metrics] | None = None,
        web: bool = False,
        names: frozenset[str] | None = None,
    ) -> None:
        self._running = WorkQueue(threads, limits.max_queue, "rest", computes=True)
        self._telling = WorkQueue(STATE_THREADS, limits.max_queue, "rest-state")
        self._connections = Connections(limits.max_connections)
        endpoint: ASGIApp = Endpoint(
            RestService(models, requests, limits=limits),
            running=self._running,
            telling=self._telling,
            limits=limits,
            budget=budget,
            timeout=timeout,
            cors=cors,
            metrics=metrics,
            names=names,
        )
        if web:
            endpoint = Page(endpoint, reserved=metrics[0] if metrics else None)
        self._app = endpoint
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    def start(self, sock: socket.socket) -> None:
        """Start serving at a bound socket, which is closed at the end."""
        self._server = uvicorn.Server(
            uvicorn.Config(
                self._app,
                log_config=None,
                log_level="error",  # at "warning", each invalid request would be logged
                access_log=False,
                lifespan="off",
                ws="none",
                http=partial(HttpProtocol, connections=self._connections),  # type: ignore[arg-type]
                server_header=False,
                # libevent's. With uvicorn's 5 s, a connection may be closed just as a client that
                # sends one POST every 5 s reuses it, and a POST must not be retried implicitly.
                timeout_keep_alive=50,
            )
        )
        sock.listen(_BACKLOG)
        self._thread = threading.Thread(target=self._run, args=(sock,), name="rest", daemon=True)
        self._thread.start()

    def stop(self, grace: float) -> None:
        """Refuse new requests, and finish those in flight.

        Args:
            grace: Seconds to wait for them.
        """
        if self._server is not None and self._thread is not None:
            # A float works, although the annotation is int; 0 would be an error even if no
            # request is in flight.
            self._server.config.timeout_graceful_shutdown = max(grace, 0.1)  # type: ignore[assignment]
            self._server.should_exit = True
            self._thread.join()
        self._running.close()
        self._telling.close()

    def _run(self, sock: socket.socket) -> None:
        assert self._server is not None
        with sock:
            self._server.run([sock])


# A head must come within this time as a whole; of a body, some bytes.
_HEAD_SECONDS, _BODY_SECONDS = 30.0, 30.0
_HEAD_BYTES = 64 << 10
# The scheme and the host of a request to a proxy.
_HOST = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*")
_CONTINUE = b"HTTP/1.1 100 "
# What uvicorn adds; the application's own has other fields after it.
_ADDED_CLOSE = b"\r\nconnection: close\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length: [0-9]+(?=\r\n)")
_UPGRADE = re.compile(rb"\r\nupgrade(?=[ \t]*:)", re.IGNORECASE)


class Connections:
    """The open connections, of which those that send no request are closed first.

    Args:
        most: How many there may be.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: set[HttpProtocol] = set()
        # Those without a request in progress, the longest waiting first.
        self._idle: dict[HttpProtocol, None] = {}

    def opened(self, one: HttpProtocol) -> bool:
        """A connection was opened; False if it is one too many."""
        if len(self._open) >= self._most:
            oldest = next(iter(self._idle), None)
            if oldest is None:
                return False
            oldest.abort()
            self.closed(oldest)
        self._open.add(one)
        self._idle[one] = None
        return True

    def busy(self, one: HttpProtocol) -> None:
        """A request has come in whole."""
        self._idle.pop(one, None)

    def idle(self, one: HttpProtocol) -> None:
        """The last request was answered."""
        if one in self._open:
            self._idle[one] = None

    def closed(self, one: HttpProtocol) -> None:
        """It is closed."""
        self._open.discard(one)
        self._idle.pop(one, None)


class _Head:
    """A transport that writes the head of a response as libevent does.

    Args:
        cycle: The response.
        version: HTTP's version in the request.
        announces_close: Whether the head says that the connection will be closed.
    """

    def __init__(self, cycle: RequestResponseCycle, version: str, *, announces_close: bool) -> None:
        self._cycle, self._transport = cycle, cycle.transport
        self._version, self._announces_close = version.encode(), announces_close
        self._requested_keep_alive = cycle.keep_alive
        self._written = False

    def write(self, data: bytes) -> None:
        """Write the head, or a part of the body."""
        if not self._written and not data.startswith(_CONTINUE):
            self._written = True
            data = self._changed(data)
        self._transport.write(data)

    def _changed(self, head: bytes) -> bytes:
        head = head.replace(b"HTTP/1.1", b"HTTP/" + self._version, 1)
        old = self._version == b"1.0"
        if not self._announces_close and head.endswith(_ADDED_CLOSE):
            head = head[: -len(_ADDED_CLOSE)] + b"\r\n\r\n"
        if self._cycle.scope["method"] == "HEAD" or (old and not self._requested_keep_alive):
            head = _LENGTH.sub(b"", head, count=1)
        if old and self._cycle.keep_alive:
            head = head[:-2] + b"Connection: keep-alive\r\n\r\n"
        return head

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class HttpProtocol(HttpToolsProtocol):
    """HTTP/1.1 with bounds on connections, heads, and the time in which a request must come.

    It ignores a request to upgrade, as RFC 9110, 7.8, allows: httptools ends a request after the
    headers if they request one, and so loses the body, that of each first POST of Java's
    HttpClient, which requests HTTP/2 by default.
    """

    def __init__(self, *args: Any, connections: Connections, **options: Any) -> None:
        super().__init__(*args, **options)
        # What to do if the connection is closed while a request is in progress.
        self.on_lost: Callable[[], None] | None = None
        self._connections = connections
        self._timer: asyncio.TimerHandle | None = None
        self._head = 0  # bytes of a head that is not complete
        self._in_body = False
        self._waiting = True  # for a request
        self._received = b""
        # Minor versions of HTTP/1 are compatible; others are refused below.
        self.parser.set_dangerous_leniencies(lenient_version=True)

    def connection_made(self, transport: Any) -> None:
        """Count the connection; its first request must come within a time."""
        super().connection_made(transport)
        if self._connections.opened(self):
            self._await_within(_HEAD_SECONDS)
        else:
            self._refuse(b"503 Service Unavailable")

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._await_within(None)
        self._connections.closed(self)
        super().connection_lost(exc)
        if self.on_lost is not None:
            self.on_lost()

    def data_received(self, data: bytes) -> None:
        """Parse received bytes."""
        if self._in_body:
            self._await_within(_BODY_SECONDS)
        elif self._waiting and self._timer is None:
            self._await_within(_HEAD_SECONDS)  # the first bytes of a further request
        if not getattr(self.cycle, "more_body", False):
            # The bytes begin with all or some of the headers.
            end = data.find(b"\r\n\r\n")
            head = data if end < 0 else data[:end]
            if _UPGRADE.search(head):
                data = _UPGRADE.sub(b"\r\nx-upgrade", head) + data[len(head) :]
            self._head += len(head)
            if self._head > _HEAD_BYTES:
                self._refuse(b"431 Request Header Fields Too Large")
                return
        self._received = data
        super().data_received(data)
        self._received = b""

    def on_headers_complete(self) -> None:
        """Begin the request."""
        version = self.parser.get_http_version()
        if not version.startswith("1."):
            raise ValueError(f"HTTP/{version} is not supported")
        self._head, self._in_body, self._waiting = 0, True, False
        self._await_within(_BODY_SECONDS)
        scope = cast("dict[str, Any]", self.scope)
        host = _HOST.match(self.url)
        scope[CONNECTION] = self
        scope[TARGET] = self.url[host.end() if host else 0 :].decode("latin-1")
        super().on_headers_complete()
        self._answer_as_libevent(version, to_proxy=host is not None)

    def _answer_as_libevent(self, version: str, *, to_proxy: bool) -> None:
        """Set what uvicorn has no setting for: how long the connection stays, and the head."""
        keep_alive = self.parser.should_keep_alive()
        if to_proxy:
            named = dict(self.headers).get(b"proxy-connection", b"")
            keep_alive = named.lower() == b"keep-alive"
        self.cycle.keep_alive = keep_alive
        if version != "1.1" or to_proxy or self.scope["method"] == "HEAD":
            head = _Head(self.cycle, version, announces_close=version != "1.0" and not to_proxy)
            self.cycle.transport = cast("asyncio.Transport", head)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002
        """Refuse what cannot be parsed, with libevent's page."""
        line = self._received.partition(b"\r\n")[0]
        # 413 is libevent's status for a chunk that is not valid.
        status = 413 if self._in_body else status_of_invalid(line)
        page = page_of(status)
        self.transport.write(head_of(status, len(page)) + page)
        self.transport.close()

    def on_message_complete(self) -> None:
        """The request is there as a whole; how long its answer takes is not the caller's fault."""
        self._in_body = False
        self._await_within(None)
        self._connections.busy(self)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Wait for a further request, as long as `timeout_keep_alive`."""
        if not self._in_body:
            self._waiting = True
            self._connections.idle(self)
        super().on_response_complete()

    def abort(self) -> None:
        """Close the connection at once."""
        self.transport.abort()

    def _refuse(self, status: bytes) -> None:
        self.transport.write(
            b"HTTP/1.1 " + status + b"\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        )
        self.transport.close()

    def _await_within(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else self.loop.call_later(seconds, self._too_late)

    def _too_late(self) -> None:
        if self._in_body:
            self.transport.abort()  # the application waits for the body, and sees it disconnect
        else:
            self._refuse(b"408 Request Timeout")
