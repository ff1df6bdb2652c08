"""What a request to the embedded server may cost."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass, field

_MIB = 1 << 20
# As much as each connection may hold anyway.
_SMALL = _MIB
_LARGE = 32 * _MIB
_TRIM_SECONDS = 0.5


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
    """

    max_queue: int = field(default_factory=_queue)
    max_connections: int = 1000
    max_request_bytes: int = 256 * _MIB
    max_bytes_in_flight: int = 1024 * _MIB
    max_json_values: int = 4 << 20


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
        more = count - max(self._held, _SMALL)
        if more > 0:
            if not self._budget.take(more):
                return False
            self._held = max(self._held, _SMALL) + more
        return True

    def release(self) -> None:
        """Give all of it back."""
        if self._held:
            self._budget.take(_SMALL - self._held)
            if self._held > _LARGE:
                # What it held is freed a moment later.
                threading.Timer(_TRIM_SECONDS, _trim).start()
            self._held = 0


def _trim() -> None:
    """Give memory back to the system, which garbage and glibc keep for later otherwise."""
    gc.collect()  # grpcio leaves the message of a call that was refused in a cycle
    if sys.platform == "linux":
        # musl has no such function, and no need of it.
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
