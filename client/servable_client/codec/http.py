"""Operations and results in the REST API of TensorFlow Serving; no I/O.

https://www.tensorflow.org/tfx/serving/api_rest
"""

from __future__ import annotations

import base64
import json
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http.client import responses
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
import orjson

from servable_client._errors import InvalidInput, code_of_http_status
from servable_client._wire import wire_pb2 as wire
from servable_client._wire.dtypes import data_type_of, is_numpys, numpy_dtype
from servable_client._wire.tensors import as_bytes
from servable_client.codec.predict_request import unsendable
from servable_client.types.answers import (
    ClassScores,
    Prediction,
    Score,
    Signature,
    TensorSpec,
    VersionStatus,
)
from servable_client.types.examples import Example, features
from servable_client.types.operations import (
    ClassifyOperation,
    Description,
    Failure,
    MetadataOperation,
    Operation,
    PredictOperation,
    StatusOperation,
    Target,
    UnexpectedResponse,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from servable_client.codec.grpc import Headers
    from servable_client.net.endpoints import Endpoint


@dataclass(slots=True)
class HttpRequest:
    """An HTTP request; GET if there is no body."""

    endpoint: Endpoint
    path: str
    body: bytes | None
    headers: list[tuple[bytes, bytes]]


@dataclass(slots=True)
class HttpReply:
    """An HTTP response."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


def encode(endpoint: Endpoint, operation: Operation, headers: Headers) -> HttpRequest:
    """An operation as an HTTP request.

    Raises:
        InvalidInput: An array or example cannot be represented in JSON, or REST does not support
            the operation.
    """
    path, body = _path(operation.target), None
    if isinstance(operation, PredictOperation):
        check_inputs(operation)
        path += ":predict"
        body = _dump(
            {
                "signature_name": operation.signature,
                "inputs": {name: _input(name, a) for name, a in operation.inputs.items()},
            }
        )
    elif isinstance(operation, ClassifyOperation):
        path += ":classify"
        content: dict[str, Any] = {"examples": [_example(e) for e in operation.examples]}
        if operation.signature:
            content["signature_name"] = operation.signature
        if operation.context is not None:
            content["context"] = _example(operation.context)
        body = _dump(content)
    elif isinstance(operation, MetadataOperation):
        path += "/metadata"
    elif not isinstance(operation, StatusOperation):
        raise InvalidInput(
            "TensorFlow Serving reloads its configuration over gRPC only",
            hint="use its gRPC port: grpc://host:8500",
        )
    sent = [(name.encode(), value.encode()) for name, value in headers]
    if body is not None:
        sent.append((b"Content-Type", b"application/json"))
    return HttpRequest(endpoint, path, body, sent)


def decode(operation: Operation, reply: HttpReply) -> Any:
    """The result of an operation.

    Raises:
        Failure: The status is not 200.
        UnexpectedResponse: The reply cannot be parsed.
    """
    answer = _load(reply.body)
    if reply.status != 200:
        message = answer.get("error") if isinstance(answer, dict) else None
        reason = responses.get(reply.status, "")
        raise Failure(
            code_of_http_status(reply.status),
            _text(message)
            if message
            else f"the server returned status {reply.status} {reason}".rstrip(),
            retry_after=_retry_after(reply.headers),
            http_status=reply.status,
            request_id=_header(reply.headers, b"x-request-id"),
        )
    try:
        return _read(operation, answer)
    except InvalidInput:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UnexpectedResponse from error


def _read(operation: Operation, answer: Any) -> Any:
    if isinstance(operation, PredictOperation):
        if operation.known is None:
            raise KeyError(operation.signature)
        arrays = _outputs(answer["outputs"], operation.known.outputs)
        if operation.outputs:
            arrays = {name: arrays[name] for name in operation.outputs}
        return Prediction(outputs=arrays, version=operation.target.version)
    if isinstance(operation, ClassifyOperation):
        return ClassScores(
            results=[
                # Through float32, its type before it became text.
                [Score(str(label), float(np.float32(score))) for label, score in row]
                for row in answer["results"]
            ],
            version=operation.target.version,
        )
    if isinstance(operation, MetadataOperation):
        signatures = answer["metadata"]["signature_def"]["signature_def"]
        version = answer["model_spec"].get("version")
        return Description(
            version=None if version is None else int(version),
            signatures={name: _signature(value) for name, value in signatures.items()},
        )
    return sorted(
        (
            VersionStatus(
                version=int(status["version"]),
                state=str(status["state"]),
                error_code=str(status["status"]["error_code"]),
                error_message=_text(status["status"]["error_message"]),
            )
            for status in answer["model_version_status"]
        ),
        key=lambda status: -status.version,
    )


def check_inputs(operation: PredictOperation) -> None:
    """Check dtypes as gRPC does: over REST the server silently turns a uint8 of 256 into 0.

    Raises:
        Failure: The dtype of an input differs from the signature.
    """
    for name, spec in operation.known.inputs.items() if operation.known else ():
        array = operation.inputs.get(name)
        if array is not None and _data_type(name, array) != getattr(wire, spec.dtype, None):
            raise Failure(
                "INVALID_ARGUMENT",
                f"{name} must be {spec.dtype}, got an array of {array.dtype}",
            )


def _data_type(name: str, array: NDArray[Any]) -> int:
    try:
        return data_type_of(array)
    except InvalidInput as error:
        raise unsendable(name, error) from None


def _path(target: Target) -> str:
    path = f"/v1/models/{quote(target.model, safe='')}"
    if target.version is not None:
        return f"{path}/versions/{target.version}"
    return f"{path}/labels/{quote(target.label, safe='')}" if target.label is not None else path


def _text(value: Any) -> str:
    """Text to show; bytes that are not UTF-8, which `_load` keeps, are replaced."""
    return str(value).encode(errors="surrogateescape").decode(errors="replace")


def _dump(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)


def _load(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except ValueError:
        pass
    try:
        # NaN and Infinity, which TensorFlow Serving writes, and strings that are not UTF-8.
        return json.loads(body.decode(errors="surrogateescape"))
    except (ValueError, RecursionError):
        return None


def _input(name: str, array: NDArray[Any]) -> Any:
    try:
        return _to_json(name, array)
    except InvalidInput as error:
        error.input = name
        raise


def _to_json(name: str, array: NDArray[Any]) -> Any:
    if array.dtype.kind in "OSU":
        return _strings_to_json(array)
    if array.dtype.kind == "c":
        raise InvalidInput(f"{name} is complex, which JSON cannot represent", hint="use grpc")
    if not is_numpys(array.dtype):
        raise InvalidInput(f"{name} is {array.dtype}, which REST does not take", hint="use grpc")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        # orjson would write null.
        return orjson.Fragment(json.dumps(array.tolist()))
    if not array.ndim:
        return array.item()
    return np.ascontiguousarray(array, array.dtype.newbyteorder("="))


def _strings_to_json(array: NDArray[Any]) -> Any:
    encoded = np.empty(array.shape, object)
    for index, item in np.ndenumerate(array):
        encoded[index] = {"b64": base64.b64encode(as_bytes(item)).decode()}
    return encoded.tolist()


def _example(example: Example) -> dict[str, Any]:
    return {
        name: [{"b64": base64.b64encode(item).decode()} for item in values]
        if kind == "bytes_list"
        else values
        for name, (kind, values) in features(example).items()
    }


def _outputs(outputs: Any, specs: Mapping[str, TensorSpec]) -> dict[str, NDArray[Any]]:
    # The only output of a signature comes without its name.
    if len(specs) == 1:
        outputs = {next(iter(specs)): outputs}
    return {name: _from_json(name, outputs[name], spec) for name, spec in specs.items()}


def _from_json(name: str, value: Any, spec: TensorSpec) -> NDArray[Any]:
    try:
        dtype = numpy_dtype(getattr(wire, spec.dtype, -1))
    except InvalidInput:
        raise InvalidInput(
            f"the output {name} cannot be read: its dtype is {spec.plain_dtype}", hint="use grpc"
        ) from None
    return np.asarray(value, dtype) if dtype.kind != "O" else _strings(value)


def _strings(value: Any) -> NDArray[Any]:
    """Strings as bytes, as over gRPC."""
    if isinstance(value, list):
        rows = [_strings(item) for item in value]
        return np.stack(rows) if rows else np.empty(0, object)
    out = np.empty((), object)
    out[()] = (
        base64.b64decode(value["b64"])
        if isinstance(value, dict)
        else value.encode(errors="surrogateescape")
    )
    return out


def _signature(value: Mapping[str, Any]) -> Signature:
    def specs(tensors: Mapping[str, Any]) -> dict[str, TensorSpec]:
        return {
            name: TensorSpec(
                dtype=info["dtype"],
                shape=None
                if info["tensor_shape"]["unknown_rank"]
                else tuple(int(dim["size"]) for dim in info["tensor_shape"]["dim"]),
            )
            for name, info in tensors.items()
        }

    return Signature(
        inputs=specs(value["inputs"]), outputs=specs(value["outputs"]), method=value["method_name"]
    )


def _retry_after(headers: Iterable[tuple[bytes, bytes]]) -> float | None:
    """The header Retry-After: seconds, or a date (RFC 9110, 10.2.3)."""
    text = _header(headers, b"retry-after")
    if text is None:
        return None
    try:
        if text.isdecimal():
            return float(text)
        return max(parsedate_to_datetime(text).timestamp() - time.time(), 0.0)
    except (ValueError, OverflowError):
        return None


def _header(headers: Iterable[tuple[bytes, bytes]], wanted: bytes) -> str | None:
    for name, value in headers:
        if name.lower() == wanted:
            return value.decode("latin-1").strip()
    return None
