"""The REST API, from paths and bodies to statuses and bodies."""

from __future__ import annotations

import json
import logging
import re
import zlib
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from google.protobuf import json_format

from servable_client._wire import wire_pb2 as wire
from servable_client._wire.tensors import fill_proto
from servable_serving.core.errors import ModelError, invalid
from servable_serving.core.names import DEFAULT_SIGNATURE
from servable_serving.repository.layout import version_of
from servable_serving.server.api.classify_regress import classify, regress
from servable_serving.server.api.predict import check_size
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
from servable_serving.server.limits import OUT_OF_MEMORY, SMALL, size_of
from servable_serving.server.samples import MAX_BYTES, prediction_log
from servable_serving.server.telemetry import RequestLog, RequestRecord

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from servable_serving.server.limits import Limits, Share

_log = logging.getLogger("servable.serving")
# The path is matched case-insensitively, the name is not.
_VERSION = r"(?:(?:/versions/(?P<version>[0-9]+))|(?:/labels/(?P<label>[^/:]+)))?"
_ASK = re.compile(
    rf"/v1/models/(?P<name>[^/:]+){_VERSION}:(?P<method>classify|regress|predict)", re.IGNORECASE
)
_TELL = re.compile(
    rf"/v1/models(?:/(?P<name>[^/:]+))?{_VERSION}(?:/(?P<metadata>metadata))?", re.IGNORECASE
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
_MAX_UNZIPPED = 100 << 20
# How a request to each of these is kept.
_KEPT: dict[str, tuple[str, Any, Any]] = {
    "classify": ("classify_log", wire.ClassificationRequest, wire.ClassificationResponse),
    "regress": ("regress_log", wire.RegressionRequest, wire.RegressionResponse),
}
# What a value takes in a list: its place, and a float or an empty list.
_VALUE_BYTES = 64


class RestService:
    """Answers HTTP requests from `models`.

    Args:
        models: The models.
        requests: Where requests are kept.
        limits: What a request may cost.
    """

    def __init__(self, models: Models, requests: RequestLog, *, limits: Limits) -> None:
        self._models, self._requests, self._limits = models, requests, limits

    def answer(
        self,
        method: str,
        path: str,
        body: bytes,
        zipped: bool = False,
        *,
        deadline: float | None = None,
        share: Share | None = None,
    ) -> tuple[int, bytes]:
        """The status and the body of a response; errors are in the body.

        Args:
            method: GET, POST and so on.
            path: The raw path and query.
            body: The body; empty if the request has none.
            zipped: Whether the body is compressed with gzip.
            deadline: Until when, by time.monotonic.
            share: The memory that it holds; None where that is not bounded.
        """
        record = RequestRecord(entrypoint="REST")
        try:
            if zipped:
                body = _unzipped(body)
            self._check_cost(body, share)
            return 200, self._route(record, method, path, body, deadline)
        except ModelError as error:
            record.code = error.code or "UNKNOWN"
            return _HTTP_STATUS.get(record.code, 500), write_error(error.message)
        except _EmptyError:
            record.code = "INVALID_ARGUMENT"
            return 400, b""
        except MemoryError:
            record.code = "RESOURCE_EXHAUSTED"
            return _HTTP_STATUS[record.code], write_error(OUT_OF_MEMORY)
        except Exception:  # noqa: BLE001
            # No request may end the server or reveal its internals to a caller.
            _log.exception("a REST request failed")
            record.code = "INTERNAL"
            return 500, write_error("internal server error; see the server's log")
        finally:
            self._requests.keep(record)

    def refused(self, method: str, path: str, code: str) -> None:
        """Count a request that was not answered here.

        Args:
            method: GET, POST and so on.
            path: The raw path and query.
            code: The status's name.
        """
        record = RequestRecord(entrypoint="REST", code=code)
        if method == "POST" and (found := _ASK.fullmatch(path)):
            record.model, record.api = _decoded(found["name"]), found["method"].lower()
        self._requests.keep(record)

    def _check_cost(self, body: bytes, share: Share | None) -> None:
        """Refuse a body that would take too much memory as Python's objects."""
        size = len(body)
        if size <= SMALL:
            return
        values, most = 0, self._limits.max_json_values
        for at in range(0, size, SMALL):  # in pieces, between which others get their turn
            # Each value follows one of these; those within strings count too.
            values += sum(body.count(mark, at, at + SMALL) for mark in (b",", b"[", b"{"))
            if values > most:
                raise invalid(
                    f"The JSON body has more than {most} values; send fewer rows, or tensors over "
                    "gRPC"
                )
        if share is not None and not share.grow_to(size + values * _VALUE_BYTES):
            raise ModelError(
                "RESOURCE_EXHAUSTED", "Too many large requests are in progress; retry later"
            )

    def _route(
        self, record: RequestRecord, method: str, path: str, body: bytes, deadline: float | None
    ) -> bytes:
        if method == "POST" and (found := _ASK.fullmatch(path)):
            spec = _spec(found, record)
            record.api = found["method"].lower()
            # Case-sensitive, as in TensorFlow Serving: `:CLASSIFY` is not a method.
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

    def _predict(
        self, spec: Spec, record: RequestRecord, body: bytes, deadline: float | None
    ) -> bytes:
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
            check_size(definition, inputs)
            outputs = model.run(name, inputs, deadline=deadline)
        self._limits.check_response(outputs, as_json=True)
        answer = write_outputs(outputs, rows=rows)
        record.log = partial(_predict_log, spec.name, record.version, name, inputs, outputs)
        return answer

    def _examples(
        self, spec: Spec, record: RequestRecord, body: bytes, deadline: float | None
    ) -> bytes:
        request = parse_body(body)
        name = read_signature_name(request)
        examples = read_examples(request)
        with self._models.find(spec) as (record.version, model):
            result: wire.ClassificationResult | wire.RegressionResult
            if record.api == "classify":
                result = classify(model, name, examples, deadline=deadline)
                answer = write_classifications(result)
            else:
                result = regress(model, name, examples, deadline=deadline)
                answer = write_regressions(result)
        signature = name or DEFAULT_SIGNATURE
        record.log = partial(
            _examples_log, record.api, spec.name, record.version, signature, examples, result
        )
        return answer

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

    def _metadata(self, spec: Spec, record: RequestRecord) -> bytes:
        with self._models.find(spec) as (version, model):
            record.version = version
            signatures = {name: _message(signature) for name, signature in model.signatures.items()}
        return _dump(
            {
                "model_spec": {"name": spec.name, "signature_name": "", "version": str(version)},
                "metadata": {"signature_def": {"signature_def": signatures}},
            }
        )


def _examples_log(
    api: str,
    model: str,
    version: int,
    signature: str,
    examples: wire.Input,
    result: wire.ClassificationResult | wire.RegressionResult,
) -> wire.PredictionLog | None:
    """A request over REST and its answer, as over gRPC; None if they are too large to be kept."""
    kind, request_type, response_type = _KEPT[api]
    return prediction_log(
        kind,
        request_type(model_spec=_model_spec(model, None, signature), input=examples),
        response_type(model_spec=_model_spec(model, version, signature), result=result),
    )


def _predict_log(
    model: str,
    version: int,
    signature: str,
    inputs: Mapping[str, NDArray[Any]],
    outputs: Mapping[str, NDArray[Any]],
) -> wire.PredictionLog | None:
    """A request over REST and its answer, as over gRPC; None if they are too large to be kept."""
    if sum(map(size_of, (*inputs.values(), *outputs.values()))) > MAX_BYTES:
        return None
    request = wire.PredictRequest(model_spec=_model_spec(model, None, signature))
    response = wire.PredictResponse(model_spec=_model_spec(model, version, signature))
    for name, array in inputs.items():
        fill_proto(request.inputs[name], array)
    for name, array in outputs.items():
        fill_proto(response.outputs[name], array)
    return prediction_log("predict_log", request, response)


def _model_spec(model: str, version: int | None, signature: str) -> wire.ModelSpec:
    spec = wire.ModelSpec(name=model, signature_name=signature)
    if version is not None:
        spec.version.value = version
    return spec


class _EmptyError(Exception):
    """A request that TensorFlow Serving answers with a status and an empty body."""


def _spec(found: re.Match[str], record: RequestRecord) -> Spec:
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


def _unzipped(body: bytes) -> bytes:
    """A gzip body, decompressed; empty if invalid or too large, as in TensorFlow Serving."""
    unzip = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        plain = unzip.decompress(body, _MAX_UNZIPPED)
    except zlib.error:
        return b""
    return plain if unzip.eof and not unzip.unused_data else b""
