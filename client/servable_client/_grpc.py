"""The transport that speaks gRPC: tensorflow_serving/apis/*_service.proto."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import grpc

from servable_client._answers import STATUS_CODES, Prediction, Signature, TensorSpec, VersionStatus
from servable_client._errors import error_for
from servable_client._tensors import from_proto, to_proto
from servable_client._wire import wire_pb2 as wire

if TYPE_CHECKING:
    from collections.abc import Mapping

    from google.protobuf.message import Message
    from numpy.typing import NDArray

    from servable_client._transport import Target

_Response = TypeVar("_Response", bound="Message")

_PREDICTION = "/tensorflow.serving.PredictionService/"
_MODEL = "/tensorflow.serving.ModelService/"

_OPTIONS = [
    # The default of 4 MiB is less than a batch of answers can take.
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # The default waits up to two minutes before a server that came back is tried again.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
]


class GrpcTransport:
    """A channel to one server; safe to share between threads."""

    def __init__(self, address: str, *, secure: bool) -> None:
        self.endpoint = f"{'grpcs' if secure else 'grpc'}://{address}"
        self._channel = (
            grpc.secure_channel(address, grpc.ssl_channel_credentials(), _OPTIONS)
            if secure
            else grpc.insecure_channel(address, _OPTIONS)
        )

    def predict(
        self, target: Target, signature: str, inputs: Mapping[str, NDArray[Any]], timeout: float
    ) -> Prediction:
        """Run a signature."""
        request = wire.PredictRequest(model_spec=_spec(target, signature))
        for name, array in inputs.items():
            request.inputs[name].CopyFrom(to_proto(array))
        response = self._call(
            _PREDICTION + "Predict", request, wire.PredictResponse, target, timeout, signature
        )
        return Prediction(
            outputs={name: from_proto(tensor) for name, tensor in response.outputs.items()},
            version=response.model_spec.version.value or None,
        )

    def status(self, target: Target, timeout: float) -> list[VersionStatus]:
        """The versions that the server knows, highest first."""
        request = wire.GetModelStatusRequest(model_spec=_spec(target))
        response = self._call(
            _MODEL + "GetModelStatus", request, wire.GetModelStatusResponse, target, timeout
        )
        versions = [
            VersionStatus(
                version=status.version,
                state=wire.ModelVersionStatus.State.Name(status.state),
                error_code=STATUS_CODES[status.status.error_code],
                error_message=status.status.error_message,
            )
            for status in response.model_version_status
        ]
        return sorted(versions, key=lambda status: -status.version)

    def metadata(self, target: Target, timeout: float) -> dict[str, Signature]:
        """The signatures of a model, by name."""
        request = wire.GetModelMetadataRequest(
            model_spec=_spec(target), metadata_field=["signature_def"]
        )
        response = self._call(
            _PREDICTION + "GetModelMetadata",
            request,
            wire.GetModelMetadataResponse,
            target,
            timeout,
        )
        # Not Unpack: it compares the type's name, which is upstream's in the Any and ours here.
        signatures = wire.SignatureDefMap.FromString(response.metadata["signature_def"].value)
        return {name: _signature(value) for name, value in signatures.signature_def.items()}

    def close(self) -> None:
        """Hang up."""
        self._channel.close()

    def _call(
        self,
        method: str,
        request: Message,
        response_type: type[_Response],
        target: Target,
        timeout: float,
        signature: str = "",
    ) -> _Response:
        call = self._channel.unary_unary(
            method,
            request_serializer=type(request).SerializeToString,
            response_deserializer=response_type.FromString,
        )
        try:
            return call(request, timeout=timeout)  # type: ignore[no-any-return]
        except grpc.RpcError as error:
            code, message = error.code().name, error.details() or "no reason given"
            if code == "UNAVAILABLE":
                message = f"cannot reach {self.endpoint}: {message}"
            elif code == "DEADLINE_EXCEEDED":
                message = f"no answer from {self.endpoint} within {timeout:g} s"
            raise error_for(
                code, message, endpoint=self.endpoint, model=target.model, signature=signature
            ) from error


def _spec(target: Target, signature: str = "") -> wire.ModelSpec:
    spec = wire.ModelSpec(name=target.model, signature_name=signature)
    if target.version is not None:
        spec.version.value = target.version
    elif target.label is not None:
        spec.version_label = target.label
    return spec


def _signature(proto: wire.SignatureDef) -> Signature:
    def specs(tensors: Mapping[str, wire.TensorInfo]) -> dict[str, TensorSpec]:
        return {
            name: TensorSpec(
                dtype=wire.DataType.Name(info.dtype),
                shape=None
                if info.tensor_shape.unknown_rank
                else tuple(dim.size for dim in info.tensor_shape.dim),
            )
            for name, info in tensors.items()
        }

    return Signature(
        inputs=specs(proto.inputs), outputs=specs(proto.outputs), method=proto.method_name
    )
