"""Operations and results as gRPC messages of TensorFlow Serving; no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from google.protobuf.message import DecodeError

from servable_client._errors import InvalidInput
from servable_client._wire import wire_pb2 as wire
from servable_client._wire.status import STATUS_CODES
from servable_client._wire.tensors import from_proto
from servable_client.codec.predict_request import fill_spec, predict_body
from servable_client.codec.predict_response import read
from servable_client.types.answers import (
    ClassScores,
    Prediction,
    Score,
    Signature,
    TensorSpec,
    VersionStatus,
)
from servable_client.types.examples import fill_input
from servable_client.types.operations import (
    ClassifyOperation,
    Description,
    Failure,
    MetadataOperation,
    Operation,
    PredictOperation,
    ReloadOperation,
    StatusOperation,
    UnexpectedResponse,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from servable_client.net.endpoints import Endpoint

Headers = tuple[tuple[str, str], ...]

REQUEST_ID = "x-request-id"
NOT_ONE_MESSAGE = "the response is not a single uncompressed gRPC message"

_PREDICT = f"/{PredictOperation.service}/{PredictOperation.method}"


@dataclass(slots=True)
class GrpcRequest:
    """A unary call."""

    endpoint: Endpoint
    path: str
    body: bytes
    metadata: Headers


def encode(endpoint: Endpoint, operation: Operation, metadata: Headers) -> GrpcRequest:
    """An operation as a gRPC call.

    Raises:
        InvalidInput: An array or example cannot be represented.
    """
    if isinstance(operation, PredictOperation):
        return GrpcRequest(endpoint, _PREDICT, predict_body(operation), metadata)
    request: Any
    if isinstance(operation, ClassifyOperation):
        request = wire.ClassificationRequest()
        fill_spec(request.model_spec, operation.target, operation.signature)
        fill_input(request.input, operation.examples, operation.context)
    elif isinstance(operation, MetadataOperation):
        request = wire.GetModelMetadataRequest(metadata_field=["signature_def"])
        fill_spec(request.model_spec, operation.target)
    elif isinstance(operation, StatusOperation):
        request = wire.GetModelStatusRequest()
        fill_spec(request.model_spec, operation.target)
    else:
        request = wire.ReloadConfigRequest(config=operation.config)
    return GrpcRequest(
        endpoint,
        f"/{operation.service}/{operation.method}",
        request.SerializeToString(),
        metadata,
    )


def decode(operation: Operation, body: bytes) -> Any:
    """The result of an operation.

    Raises:
        Failure: The response contains an error.
        UnexpectedResponse: It cannot be parsed.
        InvalidInput: It contains tensors of a type that NumPy does not support.
    """
    try:
        if isinstance(operation, PredictOperation):
            found = read(body)
            if found is not None:
                return Prediction(outputs=found[0], version=found[1])
            predicted = wire.PredictResponse.FromString(body)
            return Prediction(
                outputs={name: _output(name, t) for name, t in predicted.outputs.items()},
                version=_version(predicted),
            )
        if isinstance(operation, ClassifyOperation):
            classified = wire.ClassificationResponse.FromString(body)
            return ClassScores(
                results=[
                    [Score(item.label, item.score) for item in row.classes]
                    for row in classified.result.classifications
                ],
                version=_version(classified),
            )
        if isinstance(operation, MetadataOperation):
            described = wire.GetModelMetadataResponse.FromString(body)
            # Not Unpack, which compares type names: the name in the Any is the upstream one.
            signatures = wire.SignatureDefMap.FromString(
                described.metadata["signature_def"].value
            ).signature_def
            return Description(
                version=_version(described),
                signatures={name: _signature(value) for name, value in signatures.items()},
            )
        if isinstance(operation, StatusOperation):
            return _statuses(wire.GetModelStatusResponse.FromString(body).model_version_status)
        status = wire.ReloadConfigResponse.FromString(body).status
    except (DecodeError, UnicodeDecodeError) as error:
        raise UnexpectedResponse from error
    assert isinstance(operation, ReloadOperation)
    if status.error_code:
        raise Failure(
            code_by_number(status.error_code), status.error_message.decode(errors="replace")
        )
    return None


def _output(name: str, tensor: wire.TensorProto) -> NDArray[Any]:
    try:
        return from_proto(tensor)
    except InvalidInput as error:
        raise InvalidInput(
            f"the output {name} cannot be read: {error}",
            hint=error.hint or "name the other outputs in `output_filter`",
        ) from None


def code_by_number(number: int) -> str:
    """The name of a status code."""
    return STATUS_CODES[number] if 0 <= number < len(STATUS_CODES) else "UNKNOWN"


def _version(response: Any) -> int | None:
    """The version that answered; None if the server does not report it."""
    spec = response.model_spec
    return int(spec.version.value) if spec.HasField("version") else None


def _statuses(found: Iterable[wire.ModelVersionStatus]) -> list[VersionStatus]:
    versions = [
        VersionStatus(
            version=status.version,
            state=wire.ModelVersionStatus.State.Name(status.state),
            error_code=code_by_number(status.status.error_code),
            error_message=status.status.error_message.decode(errors="replace"),
        )
        for status in found
    ]
    return sorted(versions, key=lambda status: -status.version)


def _signature(proto: wire.SignatureDef) -> Signature:
    def specs(tensors: Mapping[str, wire.TensorInfo]) -> dict[str, TensorSpec]:
        return {
            name: TensorSpec(
                dtype=_dtype_name(info.dtype),
                shape=None
                if info.tensor_shape.unknown_rank
                else tuple(dim.size for dim in info.tensor_shape.dim),
            )
            for name, info in tensors.items()
        }

    return Signature(
        inputs=specs(proto.inputs), outputs=specs(proto.outputs), method=proto.method_name
    )


def _dtype_name(number: wire.DataType) -> str:
    try:
        return str(wire.DataType.Name(number))
    except ValueError:
        return f"DT_{number}"  # a newer type, known by its number only


def delay_of(metadata: Iterable[tuple[str, str | bytes]]) -> float | None:
    """The delay, in seconds, after which a server accepts a retry, from its trailers.

    It is google.rpc.RetryInfo in the status details, `grpc-retry-pushback-ms` (gRFC A6), or
    `retry-after` in seconds, which gateways send that also serve HTTP.
    """
    for key, value in metadata:
        try:
            if key == "grpc-status-details-bin" and isinstance(value, bytes):
                for detail in wire.RpcStatus.FromString(value).details:
                    if detail.type_url.endswith("/google.rpc.RetryInfo"):
                        delay = wire.RetryInfo.FromString(detail.value).retry_delay
                        return max(delay.seconds + delay.nanos / 1e9, 0.0)
            elif key == "grpc-retry-pushback-ms":
                # A negative value means: do not retry.
                return float(value) / 1000 if float(value) >= 0 else None
            elif key == "retry-after":
                return max(float(value), 0.0)
        except (ValueError, DecodeError):
            continue
    return None


def request_id_of(metadata: Iterable[tuple[str, str | bytes]]) -> str | None:
    """The id of a request in the headers and trailers of its response, which gateways send."""
    for key, value in metadata:
        if key == REQUEST_ID and isinstance(value, str):
            return value
    return None


def refuses_retry(metadata: Iterable[tuple[str, str | bytes]]) -> bool:
    """Whether a server asks not to retry: its pushback is not a time (gRFC A6)."""
    for key, value in metadata:
        if key == "grpc-retry-pushback-ms":
            try:
                return not float(value) >= 0
            except ValueError:
                return True
    return False
