"""The server's gRPC side: tensorflow.serving.PredictionService and ModelService."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc
from tensorflow_serving.apis import (
    classification_pb2,
    inference_pb2,
    model_management_pb2,
    regression_pb2,
)

from servable_client._wire import wire_pb2 as wire
from servable_client._wire.tensors import fill_proto
from servable_client.types.answers import STATUS_CODES
from servable_serving.core.errors import ModelError, invalid
from servable_serving.core.names import DEFAULT_SIGNATURE
from servable_serving.server.api.classify_regress import classify, multi_inference, regress
from servable_serving.server.api.predict import predict
from servable_serving.server.config import model_settings
from servable_serving.server.lifecycle.registry import Models, Spec
from servable_serving.server.request_log import Record, Requests

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from google.protobuf.message import Message

_log = logging.getLogger("servable.serving")

PREDICTION = "tensorflow.serving.PredictionService"
MODEL = "tensorflow.serving.ModelService"
_FOREVER_SECONDS = 1e6
_LONGEST_DETAILS = 2000
# How long the server, when it stops, waits for calls that it has not heard all of.
_STRAY_SECONDS = 5.0
_LOOK_SECONDS = 0.1
_SIGNATURES = "signature_def"
_SIGNATURES_TYPE = "type.googleapis.com/tensorflow.serving.SignatureDefMap"


class GrpcService:
    """Answers gRPC calls from `models`.

    Each method takes the request, the record to fill in, and the call's context.
    """

    def __init__(
        self,
        models: Models,
        repository_path: Path | None = None,
    ) -> None:
        self._models = models
        self._repository_path = repository_path

    def predict(
        self, request: wire.PredictRequest, record: Record, context: grpc.ServicerContext
    ) -> wire.PredictResponse:
        """Run a signature."""
        spec = request.model_spec
        with self._models.find(_spec(spec, record)) as (record.version, model):
            name, outputs = predict(model, request, deadline=_deadline(context))
        response = wire.PredictResponse()
        for key, array in outputs.items():
            fill_proto(response.outputs[key], array)
        _fill(response.model_spec, record, name)
        return response

    def classify(
        self, request: Any, record: Record, context: grpc.ServicerContext
    ) -> classification_pb2.ClassificationResponse:
        """Classify examples."""
        spec = request.model_spec
        response = classification_pb2.ClassificationResponse()
        with self._models.find(_spec(spec, record)) as (record.version, model):
            result = classify(
                model, spec.signature_name, request.input, deadline=_deadline(context)
            )
        response.result.CopyFrom(result)
        _fill(response.model_spec, record, spec.signature_name or DEFAULT_SIGNATURE)
        return response

    def regress(
        self, request: Any, record: Record, context: grpc.ServicerContext
    ) -> regression_pb2.RegressionResponse:
        """Regress examples."""
        spec = request.model_spec
        response = regression_pb2.RegressionResponse()
        with self._models.find(_spec(spec, record)) as (record.version, model):
            result = regress(model, spec.signature_name, request.input, deadline=_deadline(context))
        response.result.CopyFrom(result)
        _fill(response.model_spec, record, spec.signature_name or DEFAULT_SIGNATURE)
        return response

    def multi_inference(
        self, request: Any, record: Record, context: grpc.ServicerContext
    ) -> inference_pb2.MultiInferenceResponse:
        """Several signatures for the same examples."""
        spec = request.tasks[0].model_spec if request.tasks else wire.ModelSpec()
        with self._models.find(_spec(spec, record)) as (record.version, model):
            return multi_inference(model, request.tasks, request.input, deadline=_deadline(context))

    def get_model_metadata(
        self, request: wire.GetModelMetadataRequest, record: Record, _: grpc.ServicerContext
    ) -> wire.GetModelMetadataResponse:
        """The signatures of a model."""
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        if not request.metadata_field:
            raise invalid(
                "GetModelMetadataRequest must specify at least one metadata_field",
            )
        for field in request.metadata_field:
            if field != _SIGNATURES:
                raise invalid(f"Metadata field {field} is not supported")
        with self._models.find(_spec(request.model_spec, record)) as (record.version, model):
            signatures = wire.SignatureDefMap(signature_def=model.signatures)
        response = wire.GetModelMetadataResponse()
        _fill(response.model_spec, record)
        # Not Pack: it would write our private type's name.
        response.metadata[_SIGNATURES].type_url = _SIGNATURES_TYPE
        response.metadata[_SIGNATURES].value = signatures.SerializeToString()
        return response

    def get_model_status(
        self, request: wire.GetModelStatusRequest, record: Record, _: grpc.ServicerContext
    ) -> wire.GetModelStatusResponse:
        """The versions of a model."""
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        response = wire.GetModelStatusResponse()
        for status in self._models.status(_spec(request.model_spec, record)):
            response.model_version_status.add(
                version=status.version,
                state=wire.ModelVersionStatus.State.Value(status.state),
                status=wire.StatusProto(
                    error_code=STATUS_CODES.index(status.error_code),
                    error_message=status.error_message,
                ),
            )
        return response

    def handle_reload_config_request(
        self, request: Any, _: Record, context: grpc.ServicerContext
    ) -> model_management_pb2.ReloadConfigResponse:
        """Serve other models; answers when those that are new are available."""
        if request.config.WhichOneof("config") != "model_config_list":
            raise invalid(
                "ServerModelConfig type not supported by HandleReloadConfigRequest. "
                "Only ModelConfigList is currently supported",
            )
        with self._models.reloading:
            new = self._models.configure(
                model_settings(request.config, repository_path=self._repository_path)
            )
        self._models.wait_for(new, alive=context.is_active)
        response = model_management_pb2.ReloadConfigResponse()
        response.status.SetInParent()
        return response


def _deadline(context: grpc.ServicerContext) -> float | None:
    remaining = context.time_remaining()
    # Where the caller set no deadline, grpcio says that it has some hundred million years.
    return time.monotonic() + remaining if remaining < _FOREVER_SECONDS else None


def _spec(spec: Any, record: Record) -> Spec:
    record.model = spec.name
    return Spec(
        name=spec.name,
        version=spec.version.value if spec.HasField("version") else None,
        label=spec.version_label if spec.HasField("version_label") else None,
    )


def _fill(spec: Any, record: Record, signature: str = "") -> None:
    spec.name, spec.signature_name = record.model, signature
    spec.version.value = record.version


class _Health(health.HealthServicer):
    """grpc.health.v1 whose watches end with the server: each would take all of the grace."""

    def __init__(self) -> None:
        super().__init__()
        self._watches: set[grpc.ServicerContext] = set()
        self._watches_lock = threading.Lock()
        self._over = False

    def Watch(self, request: Any, context: Any, send_response_callback: Any = None) -> Any:  # noqa: N802
        """Tell of a service's state, and of each change."""
        responses = super().Watch(request, context, send_response_callback)
        with self._watches_lock:
            over = self._over
            self._watches.add(context)
        context.add_callback(lambda: self._watches.discard(context))
        if over:
            context.cancel()
        return responses

    def Check(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Tell of a service's state."""
        return super().Check(request, context)

    # A probe that waits behind slow requests would say that a busy server is a dead one.
    Check.experimental_thread_pool = ThreadPoolExecutor(1, "health")  # type: ignore[attr-defined]

    def end(self) -> None:
        """Tell every watch that the server is not serving, and end it."""
        self.enter_graceful_shutdown()
        with self._watches_lock:
            self._over, watches = True, list(self._watches)
        for context in watches:
            context.cancel()  # type: ignore[no-untyped-call]


class _Reflection(reflection.ReflectionServicer):
    """Reflection, whose streams a caller keeps open for as long as it likes."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(names)
        self._streams: set[Any] = set()
        self._over = False

    def ServerReflectionInfo(self, request_iterator: Any, context: Any) -> Any:  # noqa: N802
        """Answer what is asked of the services."""
        self._streams.add(context)
        context.add_callback(lambda: self._streams.discard(context))
        if self._over:
            context.cancel()
        return super().ServerReflectionInfo(request_iterator, context)

    # Else a few idle streams keep every thread from the requests.
    ServerReflectionInfo.experimental_thread_pool = ThreadPoolExecutor(  # type: ignore[attr-defined]
        16, "reflection"
    )

    def end(self) -> None:
        """End every stream; each would take all of the server's grace."""
        self._over = True
        for context in list(self._streams):
            context.cancel()


class GrpcServer:
    """TensorFlow Serving's services, grpc.health.v1 and reflection.

    Args:
        models: The models.
        requests: Where requests are kept.
        threads: How many calls are worked on at once.
        health_check: Whether to answer grpc.health.v1.
        repository_path: Where a reload's base paths under /models are read instead.
    """

    def __init__(
        self,
        models: Models,
        requests: Requests,
        *,
        threads: int,
        health_check: bool = False,
        repository_path: Path | None = None,
    ) -> None:
        service = GrpcService(models, repository_path)
        self._calls = _Calls()
        self._health = _Health() if health_check else None

        def handler(
            answer: Callable[[Any, Record, grpc.ServicerContext], Message],
            request_type: type[Message],
            api: str = "",
        ) -> grpc.RpcMethodHandler[Any, Any]:
            return _handler(answer, request_type, requests, self._calls, api)

        services = {
            PREDICTION: {
                "Predict": handler(service.predict, wire.PredictRequest, "Predict"),
                "Classify": handler(
                    service.classify, classification_pb2.ClassificationRequest, "Classify"
                ),
                "Regress": handler(service.regress, regression_pb2.RegressionRequest, "Regress"),
                "MultiInference": handler(
                    service.multi_inference, inference_pb2.MultiInferenceRequest
                ),
                "GetModelMetadata": handler(
                    service.get_model_metadata, wire.GetModelMetadataRequest
                ),
            },
            MODEL: {
                "GetModelStatus": handler(service.get_model_status, wire.GetModelStatusRequest),
                "HandleReloadConfigRequest": handler(
                    service.handle_reload_config_request, model_management_pb2.ReloadConfigRequest
                ),
            },
        }
        self._server = grpc.server(
            ThreadPoolExecutor(threads, thread_name_prefix="grpc"),
            handlers=[
                grpc.method_handlers_generic_handler(name, methods)
                for name, methods in services.items()
            ],
            options=[
                ("grpc.max_receive_message_length", -1),
                ("grpc.max_send_message_length", -1),
                # Else two servers share a port in silence, and each gets some of the calls.
                ("grpc.so_reuseport", 0),
            ],
        )
        names = [*services, reflection.SERVICE_NAME]
        if self._health is not None:
            health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
            names.append(health.SERVICE_NAME)
        _describe_services()
        self._reflection = _Reflection(names)
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(self._reflection, self._server)

    def listen(self, address: str, credentials: grpc.ServerCredentials | None = None) -> None:
        """Bind an address, "host:port" or "unix:path".

        Raises:
            OSError: It is in use, or not this machine's.
        """
        try:
            if credentials is None:
                self._server.add_insecure_port(address)
            else:
                self._server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise OSError(str(error)) from error

    def start(self) -> None:
        """Begin to answer."""
        self._server.start()
        if self._health is not None:
            # TensorFlow Serving names its services without their package.
            for name in ("", "PredictionService", "ModelService", PREDICTION, MODEL):
                self._health.set(name, health_pb2.HealthCheckResponse.SERVING)

    def not_ready(self) -> None:
        """Tell whoever asks for the health that there will be no more answers."""
        if self._health is not None:
            self._health.end()
        self._reflection.end()

    def stop(self, grace: float) -> threading.Event:
        """Take no more calls, finish those in flight; the event is set when that is done."""
        ended = self._server.stop(grace)
        threading.Thread(target=self._cancel_strays, args=[ended], daemon=True).start()
        return ended

    def _cancel_strays(self, ended: threading.Event) -> None:
        """Once no call is worked on, cancel what is left.

        That is a call whose request does not come, or one that came in as the server stopped: now
        and then gRPC neither hands such a one on nor refuses it, and it would last until its
        deadline, and the server with it.
        """
        since = time.monotonic()
        while not ended.wait(_LOOK_SECONDS):
            if self._calls.count:
                since = time.monotonic()
            elif time.monotonic() - since > _STRAY_SECONDS:
                self._server.stop(None)
                return


class _Calls:
    """Counts the calls that are worked on, until their answer is out."""

    def __init__(self) -> None:
        self.count = 0
        self._lock = threading.Lock()

    def begin(self, context: grpc.ServicerContext) -> None:
        """One more, until gRPC is through with it."""
        with self._lock:
            self.count += 1
        if not context.add_callback(self._end):
            self._end()  # the caller has gone meanwhile

    def _end(self) -> None:
        with self._lock:
            self.count -= 1


def _handler(
    answer: Callable[[Any, Record, grpc.ServicerContext], Message],
    request_type: type[Message],
    requests: Requests,
    calls: _Calls,
    api: str,
) -> grpc.RpcMethodHandler[Any, Any]:
    def handle(data: bytes, context: grpc.ServicerContext) -> bytes:
        calls.begin(context)
        record = Record(entrypoint="GRPC", api=api)
        try:
            return answer(request_type.FromString(data), record, context).SerializeToString()
        except ModelError as error:
            record.code, message = error.code or "UNKNOWN", error.message
        except DecodeError:
            record.code, message = "INTERNAL", f"the request is no {request_type.DESCRIPTOR.name}"
        except Exception:  # noqa: BLE001
            # Nothing that a request does may end the server or tell a stranger of its insides.
            _log.exception("a gRPC request failed")
            record.code, message = "INTERNAL", "the server failed; its log says why"
        finally:
            requests.keep(record)
        # In a trailer, of which clients take 8 KiB: what is longer would hide the code as well.
        context.abort(grpc.StatusCode[record.code], message[:_LONGEST_DETAILS])
        raise AssertionError  # abort raises

    # As bytes, so that what is no message is ours to answer, without a trace in the log.
    return grpc.unary_unary_rpc_method_handler(handle)


def _describe_services() -> None:
    """Let reflection find the services.

    The modules that register them, of protobuf's time before 3.20, then fail at what protobuf's
    C implementations never allowed.
    """
    with suppress(AttributeError):
        from tensorflow_serving.apis import model_service_pb2  # noqa: F401
    with suppress(AttributeError):
        from tensorflow_serving.apis import prediction_service_pb2  # noqa: F401
