"""What a request to the embedded server may cost."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from servable_serving.core.errors import invalid

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

# Of a request for which the system has no memory: RESOURCE_EXHAUSTED.
OUT_OF_MEMORY = "The server has not enough memory for this request"

_MIB = 1 << 20
# Requests up to this size are not counted: each connection may hold as much anyway.
SMALL = _MIB
# Threads for requests that run no graph, so that a busy server tells its state.
STATE_THREADS = 4
# The digits of a number, a point, a sign, an exponent, a comma.
_JSON_VALUE = 16


def threads() -> int:
    """Default number of requests of a protocol that run at a time: four for each core."""
    if hasattr(os, "sched_getaffinity"):
        return 4 * len(os.sched_getaffinity(0))
    return 4 * (os.cpu_count() or 1)


def _queue() -> int:
    # A queue as long as what a few times its threads do: a longer one gains no throughput, and
    # all that is accepted waits longer.
    return 4 * threads()


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds of the embedded server; see docs/reliability.md.

    Attributes:
        max_queue: Requests that may wait for a thread, for each protocol; further ones are refused
            at once, RESOURCE_EXHAUSTED or HTTP 429.
        max_connections: Open connections, for each protocol.
        max_request_bytes: Size of a request.
        max_bytes_in_flight: Memory for large requests, unpacked and parsed, all together.
        max_json_values: Values in a JSON body.
        max_response_bytes: Size of the tensors of a response, or of their JSON.
    """

    max_queue: int = field(default_factory=_queue)
    max_connections: int = 1000
    max_request_bytes: int = 256 * _MIB
    max_bytes_in_flight: int = 1024 * _MIB
    max_json_values: int = 4 << 20
    max_response_bytes: int = 1024 * _MIB

    def check_response(self, outputs: Mapping[str, NDArray[Any]], *, as_json: bool = False) -> None:
        """Refuse a response before the memory for it is taken.

        Args:
            outputs: Arrays by name, strings as objects (bytes).
            as_json: Whether they are written as JSON, by an estimate for each value.

        Raises:
            ModelError: It would be too large; `code` is INVALID_ARGUMENT, as retries do not help.
        """
        size = sum(
            size_of(array) + _JSON_VALUE * array.size * as_json for array in outputs.values()
        )
        if size > self.max_response_bytes:
            raise invalid(
                f"The response would have {size} bytes, more than {self.max_response_bytes}; send "
                "fewer rows"
            )


def size_of(array: NDArray[Any]) -> int:
    """Bytes of the elements of an array, of those of strings too."""
    # Of an array of strings, NumPy knows the size of its pointers only.
    return sum(map(len, array.flat)) if array.dtype.hasobject else array.nbytes


class Budget:
    """Memory that requests share: what does not fit is refused, and does not wait.

    Args:
        size: Bytes.
    """

    def __init__(self, size: int) -> None:
        self._free = size
        self._lock = threading.Lock()

    def share(self) -> Share:
        """The share of a request, empty at first."""
        return Share(self)

    def take(self, count: int) -> bool:
        """Take so many bytes; False if they are not free. A negative number gives some back."""
        with self._lock:
            if count > self._free:
                return False
            self._free -= count
            return True


class Share:
    """What one request holds of a budget; small requests are free."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._held = 0

    def grow_to(self, count: int) -> bool:
        """Hold so many bytes from now on; False if they are not free."""
        more = count - max(self._held, SMALL)
        if more > 0:
            if not self._budget.take(more):
                return False
            self._held = max(self._held, SMALL) + more
        return True

    def release(self) -> None:
        """Give all of it back."""
        if self._held:
            self._budget.take(SMALL - self._held)
            self._held = 0
