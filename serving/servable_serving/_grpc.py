"""The server's gRPC side: tensorflow.serving.PredictionService and ModelService."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import grpc

from servable_client import InvalidInput
from servable_client._answers import STATUS_CODES
from servable_client._tensors import from_proto, to_proto
from servable_client._wire import wire_pb2 as wire
from servable_serving._models import Models, Spec
from servable_serving._predict import run, signature_of
from servable_serving._saved_model import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.message import Message
    from numpy.typing import NDArray

_log = logging.getLogger("servable.serving")

_Request = TypeVar("_Request", bound="Message")
_SIGNATURES = "signature_def"
_SIGNATURES_TYPE = "type.googleapis.com/tensorflow.serving.SignatureDefMap"


class GrpcService:
    """Answers gRPC calls from `models`."""

    def __init__(self, models: Models) -> None:
        self._models = models

    def predict(self, request: wire.PredictRequest) -> wire.PredictResponse:
        """Run a signature."""
        with self._models.find(_spec(request.model_spec)) as (version, model):
            name, _ = signature_of(model, request.model_spec.signature_name)
            inputs = {key: _array(key, tensor) for key, tensor in request.inputs.items()}
            outputs = run(model, name, inputs, request.output_filter)
        response = wire.PredictResponse()
        _fill(response.model_spec, request.model_spec.name, version, name)
        for key, array in outputs.items():
            response.outputs[key].CopyFrom(to_proto(array))
        return response

    def get_model_metadata(
        self, request: wire.GetModelMetadataRequest
    ) -> wire.GetModelMetadataResponse:
        """The signatures of a model."""
        if not request.metadata_field:
            raise ModelError(
                "INVALID_ARGUMENT",
                "GetModelMetadataRequest must specify at least one metadata_field",
            )
        for field in request.metadata_field:
            if field != _SIGNATURES:
                raise ModelError("INVALID_ARGUMENT", f"Metadata field {field} is not supported")
        with self._models.find(_spec(request.model_spec)) as (version, model):
            signatures = wire.SignatureDefMap(signature_def=model.signatures)
        response = wire.GetModelMetadataResponse()
        _fill(response.model_spec, request.model_spec.name, version)
        # Not Pack: it would write our private type's name.
        response.metadata[_SIGNATURES].type_url = _SIGNATURES_TYPE
        response.metadata[_SIGNATURES].value = signatures.SerializeToString()
        return response

    def get_model_status(self, request: wire.GetModelStatusRequest) -> wire.GetModelStatusResponse:
        """The versions of a model."""
        response = wire.GetModelStatusResponse()
        for status in self._models.status(_spec(request.model_spec)):
            response.model_version_status.add(
                version=status.version,
                state=wire.ModelVersionStatus.State.Value(status.state),
                status=wire.StatusProto(
                    error_code=STATUS_CODES.index(status.error_code),
                    error_message=status.error_message,
                ),
            )
        return response


def _array(name: str, tensor: wire.TensorProto) -> NDArray[Any]:
    try:
        return from_proto(tensor)
    except (InvalidInput, ValueError, OverflowError):
        raise ModelError("INVALID_ARGUMENT", f"tensor parsing error: {name}") from None


def _spec(spec: wire.ModelSpec) -> Spec:
    return Spec(
        name=spec.name,
        version=spec.version.value if spec.HasField("version") else None,
        label=spec.version_label if spec.HasField("version_label") else None,
    )


def _fill(spec: wire.ModelSpec, name: str, version: int, signature: str = "") -> None:
    spec.name, spec.signature_name = name, signature
    spec.version.value = version


def grpc_server(models: Models, *, address: str, threads: int) -> grpc.Server:
    """A server, bound and not started.

    Raises:
        OSError: The address is in use or not this machine's.
    """
    service = GrpcService(models)
    server = grpc.server(
        ThreadPoolExecutor(threads, thread_name_prefix="grpc"),
        handlers=[
            grpc.method_handlers_generic_handler(
                "tensorflow.serving.PredictionService",
                {
                    "Predict": _handler(service.predict, wire.PredictRequest),
                    "GetModelMetadata": _handler(
                        service.get_model_metadata, wire.GetModelMetadataRequest
                    ),
                },
            ),
            grpc.method_handlers_generic_handler(
                "tensorflow.serving.ModelService",
                {"GetModelStatus": _handler(service.get_model_status, wire.GetModelStatusRequest)},
            ),
        ],
        options=[
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            # Else two servers share a port in silence, and each gets some of the calls.
            ("grpc.so_reuseport", 0),
        ],
    )
    try:
        server.add_insecure_port(address)
    except RuntimeError as error:
        raise OSError(str(error)) from error
    return server


def _handler(
    answer: Callable[[_Request], Message], request_type: type[_Request]
) -> grpc.RpcMethodHandler[Any, Any]:
    def handle(request: _Request, context: grpc.ServicerContext) -> Message:
        try:
            return answer(request)
        except ModelError as error:
            code, message = error.code or "UNKNOWN", error.message
        except Exception:  # noqa: BLE001
            # Nothing that a request does may end the server or tell a stranger of its insides.
            _log.exception("a gRPC request failed")
            code, message = "INTERNAL", "the server failed; its log says why"
        context.abort(grpc.StatusCode[code], message)
        raise AssertionError  # abort raises

    return grpc.unary_unary_rpc_method_handler(
        handle,
        request_deserializer=request_type.FromString,
        response_serializer=lambda response: response.SerializeToString(),
    )
