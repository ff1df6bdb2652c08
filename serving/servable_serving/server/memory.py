"""Memory that large requests leave behind."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# What is left alone: it is used again.
_GROWTH, _LITTLE = 64 << 20, 16 << 20
_STATM = Path("/proc/self/statm")


class MemoryTrimmer:
    """Gives memory back to the system, which garbage and glibc keep for later otherwise.

    A message that grpcio refuses stays in a cycle of references, and one that its core refuses is
    not seen here at all: so this goes by the resident memory of the process (proc(5)).

    Args:
        resident: The resident memory, in bytes.
        release: Gives back what can be.
    """

    def __init__(
        self,
        resident: Callable[[], int] | None = None,
        release: Callable[[], object] | None = None,
    ) -> None:
        self._resident, self._release = resident or _resident, release or _release
        self._least = self._resident()
        self._looks = 0
        self._next, self._pause = 0, 0

    def step(self) -> bool:
        """Look once; whether collection ran, as memory had grown by more than 64 MiB."""
        self._looks += 1
        now = self._resident()
        self._least = min(self._least, now)
        grown = now - self._least > _GROWTH
        if not grown and not 0 < self._next <= self._looks:
            return False
        self._release()
        self._least = self._resident()
        # The rest is in use, by a message in flight perhaps: tried again at doubling intervals.
        fruitful = now - self._least >= _LITTLE
        self._pause = 1 if grown or fruitful else 2 * self._pause
        self._next = self._looks + self._pause
        return True


def _release() -> None:
    gc.collect()
    # musl has no such function, and no need of it.
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _resident() -> int:
    """Resident memory of this process, in bytes; 0 on other systems than Linux."""
    if sys.platform != "linux":
        return 0
    return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
