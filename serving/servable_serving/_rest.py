"""The server's REST side: https://www.tensorflow.org/tfx/serving/api_rest."""

from __future__ import annotations

import json
import logging
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from google.protobuf import json_format
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.routing import Route

from servable_serving._json_body import parse_body, read_signature_name
from servable_serving._json_outputs import write_outputs
from servable_serving._json_tensors import read_inputs
from servable_serving._json_words import write_error
from servable_serving._models import Models, Spec
from servable_serving._predict import run
from servable_serving._saved_model import DEFAULT_SIGNATURE, ModelError
from servable_serving._version_folders import version_of

if TYPE_CHECKING:
    from starlette.requests import Request

    from servable_client._wire import wire_pb2 as wire

_log = logging.getLogger("servable.serving")

# The path is matched without regard to case, the name is not.
_MODEL = (
    r"/v1/models/(?P<name>[^/:]+)(?:/(?:versions/(?P<version>[0-9]+)|labels/(?P<label>[^/:]+)))?"
)
_ASK = re.compile(_MODEL + r":(?P<verb>predict)", re.IGNORECASE)
_STATUS = re.compile(_MODEL, re.IGNORECASE)
_METADATA = re.compile(_MODEL + r"/metadata", re.IGNORECASE)

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

_NOT_FOUND = (
    "<HTML><HEAD>\n<TITLE>404 Not Found</TITLE>\n</HEAD><BODY>\n"
    "<H1>Not Found</H1>\n</BODY></HTML>\n"
)


class RestService:
    """Answers HTTP requests from `models`."""

    def __init__(self, models: Models) -> None:
        self._models = models

    def answer(self, method: str, path: str, body: bytes) -> Response:
        """The answer to a request; whatever went wrong is in it."""
        try:
            if not path.lower().startswith("/v1/"):
                if path.lower() == "/v1":
                    raise _malformed(method, path)
                return Response(_NOT_FOUND, 404, media_type="text/html", headers=_NO_CHARSET)
            return _json(self._route(method, path, body))
        except ModelError as error:
            status = _HTTP_STATUS.get(error.code or "", 500)
            return _json(write_error(error.message), status)
        except Exception:  # noqa: BLE001
            # Nothing that a request does may end the server or tell a stranger of its insides.
            _log.exception("a REST request failed")
            return _json(b'{"error": "the server failed; its log says why"}', 500)

    def _route(self, method: str, path: str, body: bytes) -> bytes:
        if method == "POST" and (found := _ASK.fullmatch(path)):
            return self._predict(_spec(found), body)
        if method == "GET" and (found := _METADATA.fullmatch(path)):
            return self._metadata(_spec(found))
        if method == "GET" and (found := _STATUS.fullmatch(path)):
            return self._status(_spec(found))
        if path.lower() == "/v1/models":
            raise ModelError("INVALID_ARGUMENT", "Missing model name in request.")
        raise _malformed(method, path)

    def _predict(self, spec: Spec, body: bytes) -> bytes:
        with self._models.find(spec) as (_, model):
            request = parse_body(body)
            asked = read_signature_name(request)
            name = asked or DEFAULT_SIGNATURE
            if name not in model.signatures:
                raise ModelError(
                    "INVALID_ARGUMENT",
                    f'Serving signature name: "{name}" not found in signature def',
                )
            rows, inputs = read_inputs(request, model.signatures[name].inputs, asked)
            outputs = run(model, name, inputs)
        return write_outputs(outputs, rows=rows)

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

    def _metadata(self, spec: Spec) -> bytes:
        with self._models.find(spec) as (version, model):
            signatures = {name: _message(signature) for name, signature in model.signatures.items()}
        return _dump(
            {
                "model_spec": {"name": spec.name, "signature_name": "", "version": str(version)},
                "metadata": {"signature_def": {"signature_def": signatures}},
            }
        )


_NO_CHARSET = {"Content-Type": "text/html"}


def _json(body: bytes, status: int = 200) -> Response:
    return Response(body, status, media_type="application/json")


def _dump(value: Any) -> bytes:
    return json.dumps(value, indent=1, ensure_ascii=False).encode()


def _message(signature: wire.SignatureDef) -> dict[str, Any]:
    return json_format.MessageToDict(
        signature, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def _malformed(method: str, path: str) -> ModelError:
    return ModelError("INVALID_ARGUMENT", f"Malformed request: {method} {path}")


def _spec(found: re.Match[str]) -> Spec:
    version = found["version"]
    if version is not None and version_of(version) is None:
        raise ModelError("INVALID_ARGUMENT", f"the version {version[:40]} is no 64-bit number")
    return Spec(
        name=found["name"],
        version=None if version is None else int(version),
        label=found["label"],
    )


def rest_app(models: Models) -> Starlette:
    """The ASGI application."""
    service = RestService(models)

    async def handle(request: Request) -> Response:
        # The path as it came, for the words of an error.
        path = request.scope["raw_path"].decode("ascii", "replace")
        if request.url.query:
            path = f"{path}?{request.url.query}"
        body = await request.body()
        # TensorFlow lets go of the interpreter while it works, so threads serve side by side.
        return await run_in_threadpool(service.answer, request.method, unquote(path), body)

    methods = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"]
    return Starlette(routes=[Route("/{path:path}", handle, methods=methods)])
