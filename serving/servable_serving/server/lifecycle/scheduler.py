"""Threads and timers of the version manager, behind a protocol for tests."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable


class Timer(Protocol):
    """A scheduled call."""

    def cancel(self) -> None:
        """Cancel the call."""


class Scheduler(Protocol):
    """Makes calls in other threads, at once or later."""

    def after(self, seconds: float, call: Callable[[], None]) -> Timer:
        """Make a call after a delay, unless the process exits first."""

    def run(self, call: Callable[[], None]) -> None:
        """Make a call in the background; the process does not exit before it returns."""


class ThreadScheduler:
    """A thread for each call."""

    def after(self, seconds: float, call: Callable[[], None]) -> Timer:
        """Make a call after a delay, unless the process exits first."""
        timer = threading.Timer(seconds, call)
        timer.daemon = True
        timer.start()
        return timer

    def run(self, call: Callable[[], None]) -> None:
        """Make a call in the background; the process does not exit before it returns."""
        threading.Thread(target=call, name="unload").start()
