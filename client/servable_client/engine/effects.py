"""What the engine asks its driver to do."""

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
    """Send a request, and give back the reply."""

    request: GrpcRequest | HttpRequest
    timeout: float


@dataclass(slots=True)
class Sleep:
    """Wait."""

    seconds: float


@dataclass(slots=True)
class Invoke:
    """Call a function of the user's, and give back what it returns, awaited where need be."""

    function: Callable[[], Any]


@dataclass(slots=True)
class Offload:
    """Call a function that reads files or computes for a while."""

    function: Callable[[], Any]


_T = TypeVar("_T")
Effect: TypeAlias = Send | Sleep | Invoke | Offload
Flow: TypeAlias = Generator[Effect, Any, _T]
