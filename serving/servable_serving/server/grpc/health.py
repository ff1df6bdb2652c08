"""gRPC health checking and server reflection."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

_Response = health_pb2.HealthCheckResponse
# Its type stubs know the other variant only.
ReflectionServicer: Any = vars(reflection)["aio"].ReflectionServicer


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """grpc.health.v1 that ends its watches at shutdown: each would use up the grace period."""

    def __init__(self) -> None:
        self._states: dict[str, Any] = {}
        self._over = False
        self._changed = asyncio.Condition()

    async def Check(self, request: Any, context: Any) -> Any:  # noqa: N802
        """A service's state; NOT_FOUND if it has none."""
        state = self._states.get(request.service)
        if state is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "service name unknown")
        return _Response(status=state)

    async def Watch(self, request: Any, _: Any) -> AsyncIterator[Any]:  # noqa: N802
        """A service's state, and each change."""
        last = None
        while True:
            async with self._changed:
                state = self._states.get(request.service, _Response.SERVICE_UNKNOWN)
                if state == last:
                    if self._over:
                        return
                    await self._changed.wait()
                    continue
            last = state
            yield _Response(status=state)

    async def set(self, services: Sequence[str], state: Any) -> None:
        """Set the state of some services."""
        async with self._changed:
            self._states.update(dict.fromkeys(services, state))
            self._changed.notify_all()

    async def end(self) -> None:
        """Report to every watch that the server is not serving, and end it."""
        self._over = True
        await self.set(list(self._states), _Response.NOT_SERVING)


class Reflection(ReflectionServicer):  # type: ignore[misc]
    """Reflection that ends its streams at shutdown; clients keep them open for any time."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(names)
        self._over = asyncio.Event()

    async def ServerReflectionInfo(  # noqa: N802
        self, request_iterator: Any, unused_context: Any
    ) -> AsyncIterator[Any]:
        """Describe services, message by message."""
        answers = super().ServerReflectionInfo(self._until_over(request_iterator), unused_context)
        async for answer in answers:
            yield answer

    async def _until_over(self, requests: Any) -> AsyncIterator[Any]:
        over = asyncio.ensure_future(self._over.wait())
        try:
            while True:
                following = asyncio.ensure_future(anext(requests, None))
                await asyncio.wait({following, over}, return_when=asyncio.FIRST_COMPLETED)
                if not following.done():
                    following.cancel()
                    return
                request = following.result()
                if request is None:
                    return
                yield request
        finally:
            over.cancel()

    def end(self) -> None:
        """End every stream; each would use up the server's grace period."""
        self._over.set()


def describe_services() -> None:
    """Let reflection find the services.

    The modules that register them, of protobuf's time before 3.20, then fail at what protobuf's
    C implementations never allowed.
    """
    with suppress(AttributeError):
        from tensorflow_serving.apis import model_service_pb2  # noqa: F401
    with suppress(AttributeError):
        from tensorflow_serving.apis import prediction_service_pb2  # noqa: F401
