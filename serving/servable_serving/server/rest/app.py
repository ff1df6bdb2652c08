"""The ASGI application of the REST API."""

from __future__ import annotations

import asyncio
import re
import time
from functools import partial
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from servable_serving.core.errors import ModelError
from servable_serving.server.json.rapidjson_values import write_error
from servable_serving.server.refusals import Refusals
from servable_serving.server.rest.origins import allows
from servable_serving.server.work_queue import TIMED_OUT, QueueFullError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from concurrent.futures import Future

    from starlette.types import Receive, Scope, Send

    from servable_serving.server.limits import Budget, Limits, Share
    from servable_serving.server.rest.service import RestService
    from servable_serving.server.telemetry import Metrics
    from servable_serving.server.work_queue import WorkQueue

# The characters that libevent accepts in a path, a query and a fragment (RFC 3986).
_TARGET = re.compile(
    r"(?P<path>(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/]|%[0-9A-Fa-f]{2})*)"
    r"(?:\?(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/?]|%[0-9A-Fa-f]{2})*)?"
    r"(?:#(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/?]|%[0-9A-Fa-f]{2})*)?"
)
_CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST, GET",
    "Access-Control-Allow-Headers": "Content-Type",
}
_JSON = "application/json"
_HTML = "text/html; charset=ISO-8859-1"  # libevent's default
_REASONS = {
    400: "Bad Request",
    404: "Not Found",
    413: "Request Entity Too Large",
    417: "Expectation Failed",
    501: "Not Implemented",
}
_REQUEST_LINE = re.compile(r"(?P<method>[^ ]+) (?P<target>[^ ]+) HTTP/1\.[0-9]+")
_METHODS = frozenset({"GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"})
# Where the scope of a request has its connection, whose `on_lost` is called when it is closed, and
# its target as it was sent, without scheme and host.
CONNECTION, TARGET = "servable.connection", "servable.target"
_OTHER_PAGE = (
    "Web pages of other hosts may not send requests to this server; see "
    "--rest_api_enable_cors_support and --rest_api_allowed_hosts"
)
_TOO_MANY = 429
_RETRY_AFTER = {"Retry-After": "1"}


class _BodyError(Exception):
    """The body is too large."""


class Endpoint:
    """Everything below "/", as an ASGI application.

    Args:
        service: Answers requests.
        running: Where requests that run a model wait for a thread.
        telling: Where the others do, so that a busy server tells its state.
        limits: What a request may cost.
        budget: The memory for large bodies.
        timeout: Seconds that a request may take, from its arrival; 0 or less for no limit.
        cors: Whether to enable CORS.
        metrics: The path of the metrics, and the metrics.
        names: The server's own names, if pages of others must not send it requests; None if they
            may.
    """

    def __init__(
        self,
        service: RestService,
        *,
        running: WorkQueue,
        telling: WorkQueue,
        limits: Limits,
        budget: Budget,
        timeout: float,
        cors: bool,
        metrics: tuple[str, Metrics] | None,
        names: frozenset[str] | None = None,
    ) -> None:
        self._names = names
        self._service, self._running, self._telling = service, running, telling
        self._limits, self._budget, self._timeout = limits, budget, timeout
        self._headers: Mapping[str, str] = _CORS if cors else {}
        self._metrics_path = metrics[0] if metrics else None
        self._metrics = metrics[1] if metrics else None
        self._refusals = Refusals()

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
        deadline = time.monotonic() + self._timeout if self._timeout > 0 else None
        whole: str = request.scope[TARGET]
        target = _TARGET.fullmatch(whole)
        if target is None:
            return _page(400)
        if request.method not in _METHODS:
            return _page(501)
        if _expects_what_is_unknown(request):
            return _page(417)
        if self._metrics is not None and target["path"] == self._metrics_path:
            return self._tell_metrics(whole)
        if not whole.lower().startswith("/v1/"):
            return _page(404)
        if request.method == "OPTIONS":
            origin = request.headers.get("origin", "")
            status = 200 if re.search("https?://", origin) else 400
            return _answer(b"", status, _HTML, self._headers)
        if request.method == "POST" and not self._may_come(request):
            self._service.refused(request.method, whole, "PERMISSION_DENIED")
            return _answer(write_error(_OTHER_PAGE), 403, _JSON, self._headers)
        queue = self._running if request.method == "POST" else self._telling
        share = self._budget.share()
        future = refusal = None
        try:
            if queue.is_full:  # no body is read for nothing
                raise QueueFullError
            body = await _body(request, self._limits.max_request_bytes, share)
            zipped = "gzip" in request.headers.get("content-encoding", "")
            work = partial(
                self._service.answer, request.method, whole, body, zipped, deadline=deadline,
                share=share,
            )  # fmt: skip
            del body
            future = queue.submit(work, deadline=deadline)
            future.add_done_callback(lambda _: share.release())
            status, data = await _result(future, request, deadline)
        except _BodyError:
            return _page(413)
        except ClientDisconnect:
            if future is not None and not future.running():
                self._service.refused(request.method, whole, "CANCELLED")
            raise
        except ModelError as error:
            if error.code != "RESOURCE_EXHAUSTED":
                # Where its graph runs already, the service counts it at the end.
                if future is not None and not future.running():
                    self._service.refused(request.method, whole, "DEADLINE_EXCEEDED")
                return _answer(write_error(error.message), 504, _JSON, self._headers)
            refusal = error.message
        finally:
            if future is None:
                share.release()
        if refusal is not None:
            # Here, since it takes a while, for which what there is of the body must not be kept.
            return await self._too_many(request, whole, refusal)
        headers = {**self._headers, **_RETRY_AFTER} if status == _TOO_MANY else self._headers
        return _answer(data, status, _JSON, headers)

    def _may_come(self, request: Request) -> bool:
        headers = request.headers
        return self._names is None or allows(
            headers.get("sec-fetch-site"),
            headers.get("origin"),
            headers.get("host", ""),
            self._names,
        )

    async def _too_many(self, request: Request, whole: str, message: str) -> Response:
        self._service.refused(request.method, whole, "RESOURCE_EXHAUSTED")
        await asyncio.sleep(self._refusals.delay())
        headers = {**self._headers, **_RETRY_AFTER}
        return _answer(write_error(message), _TOO_MANY, _JSON, headers)

    def _tell_metrics(self, whole: str) -> Response:
        assert self._metrics is not None
        if whole != self._metrics_path:
            reason = f"Unexpected path: {whole}. Should be {self._metrics_path}"
            return _answer(reason.encode(), 400, "text/plain")
        return _answer(self._metrics.page(), 200, "text/plain")


async def _body(request: Request, most: int, share: Share) -> bytes:
    """The raw body."""
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdecimal() and int(declared) > most:
        raise _BodyError
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > most:
            raise _BodyError
        if not share.grow_to(size):
            raise QueueFullError
        chunks.append(chunk)
    return b"".join(chunks)


async def _result(
    future: Future[tuple[int, bytes]], request: Request, deadline: float | None
) -> tuple[int, bytes]:
    """The result of a request; nothing more is done for one whose caller has left.

    Raises:
        ClientDisconnect: The caller has left.
        ModelError: The deadline has passed; a graph that runs already ends when it can.
    """
    answer = asyncio.wrap_future(future)
    reason: Exception | None = None

    def give_up(because: Exception) -> None:
        nonlocal reason
        reason = because
        answer.cancel()

    timer = None
    if deadline is not None:
        late = ModelError("DEADLINE_EXCEEDED", TIMED_OUT)
        remaining = max(deadline - time.monotonic(), 0)
        timer = asyncio.get_running_loop().call_later(remaining, give_up, late)
    # Not by `request.receive()`, which would take a task for each request.
    connection = request.scope.get(CONNECTION)
    if connection is not None:
        connection.on_lost = partial(give_up, ClientDisconnect())
    try:
        return await answer
    except asyncio.CancelledError:
        if reason is None:
            raise
        raise reason from None
    finally:
        if timer is not None:
            timer.cancel()
        if connection is not None:
            connection.on_lost = None


def status_of_invalid(line: bytes) -> int:
    """The status for a request line that cannot be parsed, as libevent and the handler have it.

    Args:
        line: The request line, or what there is of it.
    """
    found = _REQUEST_LINE.fullmatch(line.decode("latin-1"))
    if found is None or not _TARGET.fullmatch(found["target"]):
        return 400
    if found["method"] not in _METHODS:
        return 501
    return 400 if found["target"].startswith("/") else 404


def page_of(status: int) -> bytes:
    """Libevent's page for an error."""
    reason = _REASONS[status]
    return (
        f"<HTML><HEAD>\n<TITLE>{status} {reason}</TITLE>\n</HEAD><BODY>\n"
        f"<H1>{reason}</H1>\n</BODY></HTML>\n"
    ).encode()


def head_of(status: int, size: int) -> bytes:
    """The head of a response with such a page, on a connection whose requests end with it."""
    return (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: text/html\r\n"
        f"Connection: close\r\nContent-Length: {size}\r\n\r\n"
    ).encode()


def _page(status: int) -> Response:
    response = _answer(page_of(status), status, "text/html")
    # libevent closes the connection after an error of its own.
    response.raw_headers.insert(0, (b"connection", b"close"))
    return response


def _expects_what_is_unknown(request: Request) -> bool:
    """Whether a request with a body has a header `Expect` that is not 100-continue."""
    headers = request.headers
    expected = headers.get("expect", "100-continue").lower()
    has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
    return expected != "100-continue" and has_body and request.scope["http_version"] != "1.0"


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
