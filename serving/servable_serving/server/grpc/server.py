"""The server's gRPC side: tensorflow.serving.PredictionService and ModelService.

On asyncio: a call costs a thread only once its message is there.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from typing import TYPE_CHECKING, Any, TypeVar, cast

import grpc
from google.protobuf.message import DecodeError, EncodeError
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from servable_client._wire import wire_pb2 as wire
from servable_serving.core.errors import ModelError
from servable_serving.server.grpc.health import Health, Reflection, describe_services
from servable_serving.server.grpc.service import Call, GrpcService
from servable_serving.server.limits import OUT_OF_MEMORY, STATE_THREADS
from servable_serving.server.refusals import Refusals
from servable_serving.server.telemetry import RequestLog, RequestRecord
from servable_serving.server.work_queue import QueueFullError, WorkQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping
    from pathlib import Path

    from google.protobuf.message import Message

    from servable_serving.server.lifecycle.registry import Models
    from servable_serving.server.limits import Budget, Limits

T = TypeVar("T")

_log = logging.getLogger("servable.serving")

PREDICTION = "tensorflow.serving.PredictionService"
MODEL = "tensorflow.serving.ModelService"
_LONGEST_DETAILS = 2000
# How long a stopping server waits for calls that it has not received completely.
_STRAY_SECONDS = 5.0
_LOOK_SECONDS = 0.1
# Threads for reloads, which wait until versions are loaded.
_RELOADING = 2
# Calls in progress on one connection.
_STREAMS = 1000
# A message, its fields and its arrays.
_COPIES = 3
_PUSHBACK = (("grpc-retry-pushback-ms", "200"),)  # gRFC A6


class GrpcServer:
    """TensorFlow Serving's services, grpc.health.v1 and reflection.

    Args:
        models: The models.
        requests: Where requests are kept.
        threads: Maximum concurrent calls.
        limits: What calls may cost.
        budget: The memory for large messages.
        health_check: Whether to answer grpc.health.v1.
        tensor_content: Whether Predict answers with `tensor_content`.
        repository_path: Where a reload's base paths under /models are read instead.
        channel_arguments: Arguments of gRPC's core, which override those of this server.
    """

    def __init__(
        self,
        models: Models,
        requests: RequestLog,
        *,
        threads: int,
        limits: Limits,
        budget: Budget,
        health_check: bool = False,
        tensor_content: bool = False,
        repository_path: Path | None = None,
        channel_arguments: Mapping[str, int | str] | None = None,
    ) -> None:
        self._service = GrpcService(models, limits, repository_path, tensor_content=tensor_content)
        self._requests, self._limits, self._health_check = requests, limits, health_check
        self._budget = budget
        self._channel_arguments = channel_arguments or {}
        waiting = limits.max_queue
        self._running = WorkQueue(threads, waiting, "grpc", computes=True)
        self._telling = WorkQueue(STATE_THREADS, waiting, "grpc-state")
        self._reloading = WorkQueue(_RELOADING, waiting, "grpc-reload")
        self._refusals = Refusals()
        self._calls = 0
        self._health: Health | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def listen(self, address: str, credentials: grpc.ServerCredentials | None = None) -> None:
        """Bind an address, "host:port" or "unix:path".

        Raises:
            OSError: It is in use, or not this machine's.
        """

        async def bind() -> None:
            if credentials is None:
                self._server.add_insecure_port(address)
            else:
                self._server.add_secure_port(address, credentials)

        try:
            self._in_loop(bind())
        except RuntimeError as error:
            raise OSError(str(error)) from error

    def start(self) -> None:
        """Start serving."""
        self._in_loop(self._start())

    def not_ready(self) -> None:
        """Report NOT_SERVING to health checks, and end open streams."""
        if self._loop is not None:
            self._in_loop(self._end_streams())

    def stop(self, grace: float) -> threading.Event:
        """Refuse new calls, finish those in flight; the event is set when that is done."""
        ended = threading.Event()
        if self._loop is None:
            ended.set()
            return ended
        stopping = asyncio.run_coroutine_threadsafe(self._stop(grace), self._loop)
        stopping.add_done_callback(lambda _: self._stopped(ended))
        return ended

    def _in_loop(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the thread of the server's event loop, which begins with the first."""
        if self._loop is None:
            loop = self._loop = _new_event_loop()
            threading.Thread(target=loop.run_forever, name="grpc", daemon=True).start()
            self._in_loop(self._create())
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    async def _create(self) -> None:
        limits = self._limits
        services = self._handlers()
        arguments: dict[str, int | str] = {
            "grpc.max_receive_message_length": limits.max_request_bytes,
            "grpc.max_send_message_length": -1,
            "grpc.max_allowed_incoming_connections": limits.max_connections,
            "grpc.max_concurrent_streams": _STREAMS,
            # A peer that went away without a word would hold its connection for two hours.
            "grpc.keepalive_time_ms": 60_000,
            "grpc.keepalive_timeout_ms": 20_000,
            "grpc.keepalive_permit_without_calls": 1,
            # Without this, two servers may share a port unnoticed, each with some of the calls.
            "grpc.so_reuseport": 0,
            **self._channel_arguments,
        }
        self._server = grpc.aio.server(
            handlers=[
                grpc.method_handlers_generic_handler(name, methods)
                for name, methods in services.items()
            ],
            options=[*arguments.items()],
        )
        names = [*services, reflection.SERVICE_NAME]
        if self._health_check:
            self._health = Health()
            health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
            names.append(health.SERVICE_NAME)
        describe_services()
        self._reflection = Reflection(names)
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(self._reflection, self._server)

    def _handlers(self) -> dict[str, dict[str, grpc.RpcMethodHandler[Any, Any]]]:
        service, running, telling = self._service, self._running, self._telling

        def handler(
            answer: Callable[[Any, RequestRecord, Call], Message],
            request_type: type[Message],
            queue: WorkQueue = running,
            api: str = "",
        ) -> grpc.RpcMethodHandler[Any, Any]:
            async def handle(data: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
                # Not kept by this frame, which the traceback of a refusal keeps for a while.
                message = [data]
                del data
                return await self._handle(answer, request_type, queue, api, message, context)

            # As bytes, so that invalid messages are answered here, without a traceback in the log.
            return grpc.unary_unary_rpc_method_handler(handle)

        return {
            PREDICTION: {
                "Predict": handler(service.predict, wire.PredictRequest, api="Predict"),
                "Classify": handler(service.classify, wire.ClassificationRequest, api="Classify"),
                "Regress": handler(service.regress, wire.RegressionRequest, api="Regress"),
                "MultiInference": handler(service.multi_inference, wire.MultiInferenceRequest),
                "GetModelMetadata": handler(
                    service.get_model_metadata, wire.GetModelMetadataRequest, telling
                ),
            },
            MODEL: {
                "GetModelStatus": handler(
                    service.get_model_status, wire.GetModelStatusRequest, telling
                ),
                "HandleReloadConfigRequest": handler(
                    service.handle_reload_config_request, wire.ReloadConfigRequest, self._reloading
                ),
            },
        }

    async def _start(self) -> None:
        await self._server.start()
        if self._health is not None:
            # TensorFlow Serving names its services without their package, and only so.
            names = ("", "PredictionService", "ModelService")
            await self._health.set(names, health_pb2.HealthCheckResponse.SERVING)

    async def _end_streams(self) -> None:
        if self._health is not None:
            await self._health.end()
        self._reflection.end()

    async def _stop(self, grace: float) -> None:
        """Stop; calls whose request does not come are cancelled once no other is in progress."""
        stopping = asyncio.ensure_future(self._server.stop(grace))
        since = time.monotonic()
        while not stopping.done():
            await asyncio.wait({stopping}, timeout=_LOOK_SECONDS)
            if self._calls:
                since = time.monotonic()
            elif time.monotonic() - since > _STRAY_SECONDS:
                await self._server.stop(None)
        await stopping

    def _stopped(self, ended: threading.Event) -> None:
        for queue in (self._running, self._telling, self._reloading):
            queue.close()
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._loop.stop)
        ended.set()

    async def _handle(
        self,
        answer: Callable[[Any, RequestRecord, Call], Message],
        request_type: type[Message],
        queue: WorkQueue,
        api: str,
        message: list[bytes],
        context: grpc.aio.ServicerContext[bytes, bytes],
    ) -> bytes:
        data = message.pop()
        # None without a deadline, which its type stubs do not know.
        remaining = cast("float | None", context.time_remaining())
        call = Call(deadline=None if remaining is None else time.monotonic() + remaining)
        record = RequestRecord(entrypoint="GRPC", api=api)

        def work() -> bytes | tuple[str, str]:
            # Failures are returned: the frames of what is raised would keep the request.
            try:
                return answer(request_type.FromString(data), record, call).SerializeToString()
            except ModelError as error:
                return error.code or "UNKNOWN", error.message
            except EncodeError:  # 2 GiB are the most that protobuf takes
                return "INVALID_ARGUMENT", "The response is too large; send fewer rows"
            except MemoryError:
                return "RESOURCE_EXHAUSTED", OUT_OF_MEMORY
            except DecodeError:
                return "INTERNAL", f"the request is not a valid {request_type.DESCRIPTOR.name}"
            except Exception:  # noqa: BLE001
                # No request may end the server or reveal its internals to a caller.
                _log.exception("a gRPC request failed")
                return "INTERNAL", "internal server error; see the server's log"

        trailer: Any = ()
        share = self._budget.share()
        self._calls += 1
        try:
            if not share.grow_to(_COPIES * len(data)):
                raise QueueFullError
            found = await asyncio.wrap_future(queue.submit(work, deadline=call.deadline))
            if isinstance(found, bytes):
                return found
            record.code, details = found
        except QueueFullError as error:
            record.code, details, trailer = "RESOURCE_EXHAUSTED", error.message, _PUSHBACK
        except ModelError as error:  # it waited too long
            record.code, details = error.code or "UNKNOWN", error.message
        except asyncio.CancelledError:
            # The caller has left: what has not begun never will.
            call.active, record.code = False, "CANCELLED"
            raise
        finally:
            self._calls -= 1
            self._requests.keep(record)
            data = b""  # as above
            share.release()
        if trailer:
            await asyncio.sleep(self._refusals.delay(call.deadline))
        # Sent in a trailer, which clients limit to 8 KiB: beyond that the code would be lost, too.
        await context.abort(grpc.StatusCode[record.code], details[:_LONGEST_DETAILS], trailer)
        raise AssertionError  # abort raises


def _new_event_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:  # it does not exist for Windows
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
