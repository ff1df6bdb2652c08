"""The server's REST side: https://www.tensorflow.org/tfx/serving/api_rest.

Paths, methods and words are those of TensorFlow Serving's http_rest_api_handler.cc,
http_server.cc and of libevent, over which it serves.
"""

from __future__ import annotations

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from servable_serving.server.rest.app import Endpoint
from servable_serving.server.rest.page import Page
from servable_serving.server.rest.service import RestService

if TYPE_CHECKING:
    import socket

    from starlette.types import ASGIApp

    from servable_serving.server.lifecycle.registry import Models
    from servable_serving.server.telemetry import Metrics, RequestLog


_BACKLOG = 128


class RestServer:
    """uvicorn in a background thread.

    Args:
        models: The models.
        requests: Where requests are kept.
        threads: Maximum concurrent requests.
        timeout: Seconds that a request may take.
        cors: Whether to enable CORS.
        metrics: The path of the metrics, and the metrics; not served unless given.
        web: Whether to serve the web page at "/", which TensorFlow Serving does not use.
    """

    def __init__(
        self,
        models: Models,
        requests: RequestLog,
        *,
        threads: int,
        timeout: float,
        cors: bool = False,
        metrics: tuple[str, Metrics] | None = None,
        web: bool = False,
    ) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="rest")
        service = RestService(models, requests, timeout=timeout)
        endpoint: ASGIApp = Endpoint(service, self._executor, cors=cors, metrics=metrics)
        if web:
            endpoint = Page(endpoint, reserved=metrics[0] if metrics else None)
        self._app = Starlette(routes=[Mount("/", endpoint)])
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
                http=HttpProtocol,
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
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _run(self, sock: socket.socket) -> None:
        assert self._server is not None
        with sock:
            self._server.run([sock])


_UPGRADE = re.compile(rb"\r\nupgrade(?=[ \t]*:)", re.IGNORECASE)


class HttpProtocol(HttpToolsProtocol):
    """HTTP/1.1 that ignores a request to upgrade, as RFC 9110, 7.8, allows.

    httptools ends a request after the headers if they request an upgrade, and so loses the body:
    that of each first POST of Java's HttpClient, which requests HTTP/2 by default.
    """

    def data_received(self, data: bytes) -> None:
        """Parse received bytes."""
        if not getattr(self.cycle, "more_body", False):
            # The bytes begin with all or some of the headers.
            end = data.find(b"\r\n\r\n")
            head = data if end < 0 else data[:end]
            if _UPGRADE.search(head):
                data = _UPGRADE.sub(b"\r\nx-upgrade", head) + data[len(head) :]
        super().data_received(data)
