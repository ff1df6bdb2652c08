"""gRPC health checking and server reflection."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from grpc_health.v1 import health
from grpc_reflection.v1alpha import reflection

if TYPE_CHECKING:
    from collections.abc import Sequence

    import grpc


class Health(health.HealthServicer):
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


class Reflection(reflection.ReflectionServicer):
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


def describe_services() -> None:
    """Let reflection find the services.

    The modules that register them, of protobuf's time before 3.20, then fail at what protobuf's
    C implementations never allowed.
    """
    with suppress(AttributeError):
        from tensorflow_serving.apis import model_service_pb2  # noqa: F401
    with suppress(AttributeError):
        from tensorflow_serving.apis import prediction_service_pb2  # noqa: F401
