"""Time as a parameter, for code that waits."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """A clock: the module `time`, or a fake in tests."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary moment; never decreases."""
        ...

    def sleep(self, seconds: float, /) -> None:
        """Wait for some seconds."""
        ...
