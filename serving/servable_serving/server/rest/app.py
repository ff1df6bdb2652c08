"""The ASGI application of the REST API."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from servable_serving.server.json.rapidjson_values import write_error

if TYPE_CHECKING:
    from collections.abc import Mapping
    from concurrent.futures import ThreadPoolExecutor

    from starlette.types import Receive, Scope, Send

    from servable_serving.server.rest.service import RestService
    from servable_serving.server.telemetry import Metrics

# The characters that libevent accepts in a path and a query (RFC 3986).
_TARGET = re.compile(
    r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/]|%[0-9A-Fa-f]{2})*"
    r"(?:\?(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/?]|%[0-9A-Fa-f]{2})*)?"
)
_CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST, GET",
    "Access-Control-Allow-Headers": "Content-Type",
}
_JSON = "application/json"
_HTML = "text/html; charset=ISO-8859-1"  # libevent's default
_METHODS = frozenset({"GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"})
_MAX_BODY = 1 << 31


class _BodyError(Exception):
    """The body is too large."""


class Endpoint:
    """Everything below "/", as an ASGI application."""

    def __init__(
        self,
        service: RestService,
        executor: ThreadPoolExecutor,
        *,
        cors: bool,
        metrics: tuple[str, Metrics] | None,
    ) -> None:
        self._service, self._executor = service, executor
        self._headers: Mapping[str, str] = _CORS if cors else {}
        self._metrics_path = metrics[0] if metrics else None
        self._metrics = metrics[1] if metrics else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except ClientDisconnect:
            return
        except asyncio.CancelledError:
            # The shutdown grace period has ended; the thread that runs the request is abandoned.
            response = _answer(write_error("The server is stopping"), 503, _JSON, self._headers)
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        path = request.scope["raw_path"].decode("latin-1")
        whole = path
        if query := request.scope["query_string"]:
            whole = f"{path}?{query.decode('latin-1')}"
        if request.method not in _METHODS:
            return _page(501, "Not Implemented")
        if not _TARGET.fullmatch(whole):
            return _page(400, "Bad Request")
        if self._metrics is not None and path == self._metrics_path:
            return self._tell_metrics(whole)
        if not whole.lower().startswith("/v1/"):
            return _page(404, "Not Found")
        if request.method == "OPTIONS":
            origin = request.headers.get("origin", "")
            status = 200 if re.search("https?://", origin) else 400
            return _answer(b"", status, _HTML, self._headers)
        try:
            body, zipped = await _body(request)
        except _BodyError:
            return _page(413, "Request Entity Too Large")
        # TensorFlow releases the GIL while it runs, so threads serve in parallel.
        status, data = await asyncio.get_running_loop().run_in_executor(
            self._executor, self._service.answer, request.method, whole, body, zipped
        )
        return _answer(data, status, _JSON, self._headers)

    def _tell_metrics(self, whole: str) -> Response:
        assert self._metrics is not None
        if whole != self._metrics_path:
            reason = f"Unexpected path: {whole}. Should be {self._metrics_path}"
            return _answer(reason.encode(), 400, "text/plain")
        return _answer(self._metrics.page(), 200, "text/plain")


async def _body(request: Request) -> tuple[bytes, bool]:
    """The raw body, and whether it is compressed with gzip."""
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > _MAX_BODY:
            raise _BodyError
        chunks.append(chunk)
    return b"".join(chunks), "gzip" in request.headers.get("content-encoding", "")


def _page(status: int, reason: str) -> Response:
    text = (
        f"<HTML><HEAD>\n<TITLE>{status} {reason}</TITLE>\n</HEAD><BODY>\n"
        f"<H1>{reason}</H1>\n</BODY></HTML>\n"
    )
    return _answer(text.encode(), status, "text/html")


def _answer(
    body: bytes, status: int, media_type: str, headers: Mapping[str, str] | None = None
) -> Response:
    response = Response(body, status)
    response.raw_headers = [
        (b"content-length", str(len(body)).encode()),
        (_Name(b"Content-Type"), media_type.encode()),
        *((_Name(name.encode()), value.encode()) for name, value in (headers or {}).items()),
    ]
    return response


class _Name(bytes):
    """A header's name that keeps its case, which Starlette and uvicorn would lower.

    No client should depend on it, but one written against TensorFlow Serving may.
    """

    __slots__ = ()

    def lower(self) -> bytes:
        return self
