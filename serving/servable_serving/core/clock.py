"""Time as a parameter, for code that waits."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Time that passes: the module `time`, or a test's own."""

    def monotonic(self) -> float:
        """Seconds since some moment; they never run backwards."""
        ...

    def sleep(self, seconds: float, /) -> None:
        """Let time pass."""
        ...
