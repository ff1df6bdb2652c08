"""gRPC health checking and server reflection."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from grpc_health.v1 import health
from grpc_reflection.v1alpha import reflection

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import grpc

_REFLECTION_STREAMS = 16


class _InPool:
    """A method that grpcio runs in a separate thread pool."""

    def __init__(self, method: Callable[..., Any], pool: ThreadPoolExecutor) -> None:
        self._method = method
        self.experimental_thread_pool = pool  # read by grpcio

    def __call__(self, *args: Any) -> Any:
        return self._method(*args)


class Health(health.HealthServicer):
    """grpc.health.v1 that ends its watches at shutdown: each would use up the grace period."""

    def __init__(self) -> None:
        super().__init__()
        # A separate pool: a probe queued behind slow requests would report a busy server as dead.
        self._threads = ThreadPoolExecutor(1, "health")
        self.Check = _InPool(  # type: ignore[method-assign, assignment]
            super().Check, self._threads
        )
        self._watches: set[grpc.ServicerContext] = set()
        self._watches_lock = threading.Lock()
        self._over = False

    def Watch(self, request: Any, context: Any, send_response_callback: Any = None) -> Any:  # noqa: N802
        """Report a service's state, and each change."""
        responses = super().Watch(request, context, send_response_callback)
        with self._watches_lock:
            over = self._over
            self._watches.add(context)
        context.add_callback(lambda: self._watches.discard(context))
        if over:
            context.cancel()
        return responses

    def end(self) -> None:
        """Report to every watch that the server is not serving, and end it."""
        self.enter_graceful_shutdown()
        with self._watches_lock:
            self._over, watches = True, list(self._watches)
        for context in watches:
            context.cancel()  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Release the threads; the server has stopped."""
        self._threads.shutdown(wait=False)


class Reflection(reflection.ReflectionServicer):
    """Reflection that ends its streams at shutdown; clients keep them open for any time."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(names)
        # A separate pool, or a few idle streams would occupy every thread of the server.
        self._threads = ThreadPoolExecutor(_REFLECTION_STREAMS, "reflection")
        self.ServerReflectionInfo = _InPool(  # type: ignore[method-assign, assignment]
            self._serve, self._threads
        )
        self._streams: set[Any] = set()
        self._over = False

    def _serve(self, request_iterator: Any, context: Any) -> Any:
        self._streams.add(context)
        context.add_callback(lambda: self._streams.discard(context))
        if self._over:
            context.cancel()
        return super().ServerReflectionInfo(request_iterator, context)

    def end(self) -> None:
        """End every stream; each would use up the server's grace period."""
        self._over = True
        for context in list(self._streams):
            context.cancel()

    def close(self) -> None:
        """Release the threads; the server has stopped."""
        self._threads.shutdown(wait=False)


def describe_services() -> None:
    """Let reflection find the services.

    The modules that register them, of protobuf's time before 3.20, then fail at what protobuf's
    C implementations never allowed.
    """
    with suppress(AttributeError):
        from tensorflow_serving.apis import model_service_pb2  # noqa: F401
    with suppress(AttributeError):
        from tensorflow_serving.apis import prediction_service_pb2  # noqa: F401
