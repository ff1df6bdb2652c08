"""The server's REST side: https://www.tensorflow.org/tfx/serving/api_rest.

Paths, methods and words are those of TensorFlow Serving's http_rest_api_handler.cc,
http_server.cc and of libevent, over which it serves.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import uvicorn
from google.protobuf import json_format
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Mount

from servable_serving.core.errors import ModelError, invalid
from servable_serving.core.names import DEFAULT_SIGNATURE
from servable_serving.repository.layout import version_of
from servable_serving.server.api.classify_regress import classify, regress
from servable_serving.server.api.predict import check
from servable_serving.server.json.examples import (
    read_examples,
    write_classifications,
    write_regressions,
)
from servable_serving.server.json.outputs import write_outputs
from servable_serving.server.json.parse import parse_body, read_signature_name
from servable_serving.server.json.rapidjson_values import write_error
from servable_serving.server.json.tensors import read_inputs
from servable_serving.server.lifecycle.registry import Models, Spec
from servable_serving.server.request_log import Record, Requests
from servable_serving.server.rest.http_protocol import HttpProtocol
from servable_serving.server.rest.page import Page

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping

    from starlette.types import ASGIApp, Receive, Scope, Send

    from servable_client._wire import wire_pb2 as wire
    from servable_serving.server.telemetry import Metrics

_log = logging.getLogger("servable.serving")

# The path is matched without regard to case, the name is not.
_VERSION = r"(?:(?:/versions/(?P<version>[0-9]+))|(?:/labels/(?P<label>[^/:]+)))?"
_ASK = re.compile(
    rf"/v1/models/(?P<name>[^/:]+){_VERSION}:(?P<method>classify|regress|predict)", re.IGNORECASE
)
_TELL = re.compile(
    rf"/v1/models(?:/(?P<name>[^/:]+))?{_VERSION}(?:/(?P<metadata>metadata))?", re.IGNORECASE
)

# What libevent takes for a path and a query (RFC 3986).
_TARGET = re.compile(
    r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/]|%[0-9A-Fa-f]{2})*"
    r"(?:\?(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/?]|%[0-9A-Fa-f]{2})*)?"
)

_HTTP_STATUS = {
    "OK": 200,
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "ABORTED": 409,
    "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}  # anything else: 500

_CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST, GET",
    "Access-Control-Allow-Headers": "Content-Type",
}
_JSON = "application/json"
_HTML = "text/html; charset=ISO-8859-1"  # what libevent says where nothing else is said
_METHODS = frozenset({"GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"})
_MAX_BODY = 1 << 31
_MAX_UNZIPPED = 100 << 20
_BACKLOG = 128


class _BodyError(Exception):
    """A body that is too large."""


class RestService:
    """Answers HTTP requests from `models`.

    Args:
        models: The models.
        requests: Where requests are kept.
        timeout: Seconds that one may take; any time where it is 0 or less.
    """

    def __init__(self, models: Models, requests: Requests, *, timeout: float) -> None:
        self._models, self._requests, self._timeout = models, requests, timeout

    def answer(
        self, method: str, path: str, body: bytes, zipped: bool = False
    ) -> tuple[int, bytes]:
        """The status and the body of an answer; whatever went wrong is in it.

        Args:
            method: GET, POST and so on.
            path: The path and what comes after it, as it came.
            body: The body, empty where there is none.
            zipped: Whether the body is to be unzipped.
        """
        record = Record(entrypoint="REST")
        try:
            if zipped:
                body = _unzipped(body)
            return 200, self._route(record, method, path, body)
        except ModelError as error:
            record.code = error.code or "UNKNOWN"
            return _HTTP_STATUS.get(record.code, 500), write_error(error.message)
        except _EmptyError:
            record.code = "INVALID_ARGUMENT"
            return 400, b""
        except Exception:  # noqa: BLE001
            # Nothing that a request does may end the server or tell a stranger of its insides.
            _log.exception("a REST request failed")
            record.code = "INTERNAL"
            return 500, write_error("the server failed; its log says why")
        finally:
            self._requests.keep(record)

    def _route(self, record: Record, method: str, path: str, body: bytes) -> bytes:
        if method == "POST" and (found := _ASK.fullmatch(path)):
            spec = _spec(found, record)
            record.api = found["method"].lower()
            deadline = time.monotonic() + self._timeout if self._timeout > 0 else None
            # As TensorFlow Serving, which knows no CLASSIFY where the path says so.
            if found["method"] == "predict":
                return self._predict(spec, record, body, deadline)
            if found["method"] in {"classify", "regress"}:
                return self._examples(spec, record, body, deadline)
        elif method == "GET" and (found := _TELL.fullmatch(path)):
            spec = _spec(found, record)
            if not spec.name:
                raise invalid("Missing model name in request.")
            if found["metadata"] == "metadata":
                return self._metadata(spec, record)
            return self._status(spec)
        raise invalid(f"Malformed request: {method} {path}")

    def _predict(self, spec: Spec, record: Record, body: bytes, deadline: float | None) -> bytes:
        request = parse_body(body)
        given = read_signature_name(request)
        with self._models.find(spec) as (record.version, model):
            name = given or DEFAULT_SIGNATURE
            if name not in model.signatures:
                raise invalid(
                    f'Serving signature name: "{name}" not found in signature def',
                )
            definition = model.signatures[name]
            rows, inputs = read_inputs(request, definition.inputs, given)
            check(definition, inputs)
            outputs = model.run(name, inputs, deadline=deadline)
        return write_outputs(outputs, rows=rows)

    def _examples(self, spec: Spec, record: Record, body: bytes, deadline: float | None) -> bytes:
        request = parse_body(body)
        name = read_signature_name(request)
        examples = read_examples(request)
        with self._models.find(spec) as (record.version, model):
            if record.api == "classify":
                return write_classifications(classify(model, name, examples, deadline=deadline))
            return write_regressions(regress(model, name, examples, deadline=deadline))

    def _status(self, spec: Spec) -> bytes:
        # 64-bit numbers are strings in protobuf's JSON, and so here.
        return _dump(
            {
                "model_version_status": [
                    {
                        "version": str(status.version),
                        "state": status.state,
                        "status": {
                            "error_code": status.error_code,
                            "error_message": status.error_message,
                        },
                    }
                    for status in self._models.status(spec)
                ]
            }
        )

    def _metadata(self, spec: Spec, record: Record) -> bytes:
        with self._models.find(spec) as (version, model):
            record.version = version
            signatures = {name: _message(signature) for name, signature in model.signatures.items()}
        return _dump(
            {
                "model_spec": {"name": spec.name, "signature_name": "", "version": str(version)},
                "metadata": {"signature_def": {"signature_def": signatures}},
            }
        )


class _EmptyError(Exception):
    """What TensorFlow Serving answers with a status and no word."""


def _spec(found: re.Match[str], record: Record) -> Spec:
    record.model = _decoded(found["name"] or "")
    version = found["version"]
    if version is not None and version_of(version) is None:
        raise _EmptyError
    return Spec(
        name=record.model,
        version=None if version is None else int(version),
        label=None if found["label"] is None else _decoded(found["label"]),
    )


def _decoded(text: str) -> str:
    return unquote(text, errors="surrogateescape")


def _dump(value: Any) -> bytes:
    return json.dumps(value, indent=1, ensure_ascii=False).encode(errors="replace")


def _message(signature: wire.SignatureDef) -> dict[str, Any]:
    return json_format.MessageToDict(
        signature, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


class _Endpoint:
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
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except ClientDisconnect:
            return
        except asyncio.CancelledError:
            # The grace of the shutdown is over; what works on it in its thread is let be.
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
        # TensorFlow lets go of the interpreter while it works, so threads serve side by side.
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
    """The body as it came, and whether it is zipped."""
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > _MAX_BODY:
            raise _BodyError
        chunks.append(chunk)
    return b"".join(chunks), "gzip" in request.headers.get("content-encoding", "")


def _unzipped(body: bytes) -> bytes:
    """A zipped body; empty where it is none or too large, as TensorFlow Serving takes it."""
    unzip = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        plain = unzip.decompress(body, _MAX_UNZIPPED)
    except zlib.error:
        return b""
    return plain if unzip.eof else b""


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
    """A header's name that keeps its case, which Starlette and uvicorn would take from it.

    No client should care, and those that were written against TensorFlow Serving may.
    """

    __slots__ = ()

    def lower(self) -> bytes:
        return self


class RestServer:
    """uvicorn in a thread of its own.

    Args:
        models: The models.
        requests: Where requests are kept.
        threads: How many requests are worked on at once.
        timeout: Seconds that one may take.
        cors: Whether pages of other origins may ask.
        metrics: Where to tell the metrics, and which; nowhere unless given.
        web: Whether to serve the web page at "/", where TensorFlow Serving has nothing.
    """

    def __init__(
        self,
        models: Models,
        requests: Requests,
        *,
        threads: int,
        timeout: float,
        cors: bool = False,
        metrics: tuple[str, Metrics] | None = None,
        web: bool = False,
    ) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="rest")
        service = RestService(models, requests, timeout=timeout)
        endpoint: ASGIApp = _Endpoint(service, self._executor, cors=cors, metrics=metrics)
        if web:
            endpoint = Page(endpoint, reserved=metrics[0] if metrics else None)
        self._app = Starlette(routes=[Mount("/", endpoint)])
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    def start(self, sock: socket.socket) -> None:
        """Begin to answer at a bound socket, which is closed at the end."""
        self._server = uvicorn.Server(
            uvicorn.Config(
                self._app,
                log_config=None,
                log_level="error",  # at warning, each client's mistake is one
                access_log=False,
                lifespan="off",
                ws="none",
                http=HttpProtocol,
                server_header=False,
                # libevent's. uvicorn's 5 s come to an end under the POST of whoever asks that
                # often, which no client may send again by itself.
                timeout_keep_alive=50,
            )
        )
        sock.listen(_BACKLOG)
        self._thread = threading.Thread(target=self._run, args=(sock,), name="rest", daemon=True)
        self._thread.start()

    def stop(self, grace: float) -> None:
        """Take no more requests, and finish those in flight.

        Args:
            grace: Seconds to wait for them.
        """
        if self._server is not None and self._thread is not None:
            # Seconds of any kind, whatever the annotation says; not 0, which is an error even
            # where nothing is in flight.
            self._server.config.timeout_graceful_shutdown = max(grace, 0.1)  # type: ignore[assignment]
            self._server.should_exit = True
            self._thread.join()
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _run(self, sock: socket.socket) -> None:
        assert self._server is not None
        with sock:
            self._server.run([sock])
