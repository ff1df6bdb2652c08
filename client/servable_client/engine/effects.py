"""The effects that the engine yields to its driver."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from servable_client.codec.grpc import GrpcRequest
    from servable_client.codec.http import HttpRequest


@dataclass(slots=True)
class Send:
    """Send a request, and return the reply."""

    request: GrpcRequest | HttpRequest
    timeout: float


@dataclass(slots=True)
class Sleep:
    """Wait for a while."""

    seconds: float


@dataclass(slots=True)
class Invoke:
    """Call a user's function, and return its result, awaited if it is a coroutine."""

    function: Callable[[], Any]


@dataclass(slots=True)
class Offload:
    """Call a function that blocks: off the event loop, if there is one."""

    function: Callable[[], Any]


_T = TypeVar("_T")
Effect: TypeAlias = Send | Sleep | Invoke | Offload
Flow: TypeAlias = Generator[Effect, Any, _T]
