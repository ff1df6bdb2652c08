"""The server's gRPC side: tensorflow.serving.PredictionService and ModelService."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from servable_client._wire import wire_pb2 as wire
from servable_serving.core.errors import ModelError
from servable_serving.server.grpc.health import Health, Reflection, describe_services
from servable_serving.server.grpc.service import GrpcService
from servable_serving.server.telemetry import RequestLog, RequestRecord

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from google.protobuf.message import Message

    from servable_serving.server.lifecycle.registry import Models

_log = logging.getLogger("servable.serving")

PREDICTION = "tensorflow.serving.PredictionService"
MODEL = "tensorflow.serving.ModelService"
_LONGEST_DETAILS = 2000
# How long a stopping server waits for calls that it has not received completely.
_STRAY_SECONDS = 5.0
_LOOK_SECONDS = 0.1


class GrpcServer:
    """TensorFlow Serving's services, grpc.health.v1 and reflection.

    Args:
        models: The models.
        requests: Where requests are kept.
        threads: Maximum concurrent calls.
        health_check: Whether to answer grpc.health.v1.
        repository_path: Where a reload's base paths under /models are read instead.
    """

    def __init__(
        self,
        models: Models,
        requests: RequestLog,
        *,
        threads: int,
        health_check: bool = False,
        repository_path: Path | None = None,
    ) -> None:
        service = GrpcService(models, repository_path)
        self._calls = _Calls()
        self._health = Health() if health_check else None

        def handler(
            answer: Callable[[Any, RequestRecord, grpc.ServicerContext], Message],
            request_type: type[Message],
            api: str = "",
        ) -> grpc.RpcMethodHandler[Any, Any]:
            return _handler(answer, request_type, requests, self._calls, api)

        services = {
            PREDICTION: {
                "Predict": handler(service.predict, wire.PredictRequest, "Predict"),
                "Classify": handler(service.classify, wire.ClassificationRequest, "Classify"),
                "Regress": handler(service.regress, wire.RegressionRequest, "Regress"),
                "MultiInference": handler(service.multi_inference, wire.MultiInferenceRequest),
                "GetModelMetadata": handler(
                    service.get_model_metadata, wire.GetModelMetadataRequest
                ),
            },
            MODEL: {
                "GetModelStatus": handler(service.get_model_status, wire.GetModelStatusRequest),
                "HandleReloadConfigRequest": handler(
                    service.handle_reload_config_request, wire.ReloadConfigRequest
                ),
            },
        }
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="grpc")
        self._server = grpc.server(
            self._executor,
            handlers=[
                grpc.method_handlers_generic_handler(name, methods)
                for name, methods in services.items()
            ],
            options=[
                ("grpc.max_receive_message_length", -1),
                ("grpc.max_send_message_length", -1),
                # Without this, two servers may share a port unnoticed, each with some of the calls.
                ("grpc.so_reuseport", 0),
            ],
        )
        names = [*services, reflection.SERVICE_NAME]
        if self._health is not None:
            health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
            names.append(health.SERVICE_NAME)
        describe_services()
        self._reflection = Reflection(names)
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
        """Start serving."""
        self._server.start()
        if self._health is not None:
            # TensorFlow Serving names its services without their package.
            for name in ("", "PredictionService", "ModelService", PREDICTION, MODEL):
                self._health.set(name, health_pb2.HealthCheckResponse.SERVING)

    def not_ready(self) -> None:
        """Report NOT_SERVING to health checks, and end open streams."""
        if self._health is not None:
            self._health.end()
        self._reflection.end()

    def stop(self, grace: float) -> threading.Event:
        """Refuse new calls, finish those in flight; the event is set when that is done."""
        ended = self._server.stop(grace)
        threading.Thread(target=self._finish, args=[ended], daemon=True).start()
        return ended

    def _finish(self, ended: threading.Event) -> None:
        self._cancel_strays(ended)
        ended.wait()
        self._executor.shutdown(wait=False)
        if self._health is not None:
            self._health.close()
        self._reflection.close()

    def _cancel_strays(self, ended: threading.Event) -> None:
        """Once no call is in progress, cancel the remaining ones.

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
    """Counts the calls in progress, until their response is sent."""

    def __init__(self) -> None:
        self.count = 0
        self._lock = threading.Lock()

    def begin(self, context: grpc.ServicerContext) -> None:
        """Count a call, until gRPC has finished it."""
        with self._lock:
            self.count += 1
        if not context.add_callback(self._end):
            self._end()  # the client has disconnected

    def _end(self) -> None:
        with self._lock:
            self.count -= 1


def _handler(
    answer: Callable[[Any, RequestRecord, grpc.ServicerContext], Message],
    request_type: type[Message],
    requests: RequestLog,
    calls: _Calls,
    api: str,
) -> grpc.RpcMethodHandler[Any, Any]:
    def handle(data: bytes, context: grpc.ServicerContext) -> bytes:
        calls.begin(context)
        record = RequestRecord(entrypoint="GRPC", api=api)
        try:
            return answer(request_type.FromString(data), record, context).SerializeToString()
        except ModelError as error:
            record.code, message = error.code or "UNKNOWN", error.message
        except DecodeError:
            record.code, message = (
                "INTERNAL",
                f"the request is not a valid {request_type.DESCRIPTOR.name}",
            )
        except Exception:  # noqa: BLE001
            # No request may end the server or reveal its internals to a caller.
            _log.exception("a gRPC request failed")
            record.code, message = "INTERNAL", "internal server error; see the server's log"
        finally:
            requests.keep(record)
        # Sent in a trailer, which clients limit to 8 KiB: beyond that the code would be lost, too.
        context.abort(grpc.StatusCode[record.code], message[:_LONGEST_DETAILS])
        raise AssertionError  # abort raises

    # As bytes, so that invalid messages are answered here, without a traceback in the log.
    return grpc.unary_unary_rpc_method_handler(handle)
