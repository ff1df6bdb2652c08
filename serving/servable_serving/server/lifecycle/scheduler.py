"""Threads and timers of the version manager, behind a protocol, so that tests need neither."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable


class Timer(Protocol):
    """A call to come."""

    def cancel(self) -> None:
        """Do not make it."""


class Scheduler(Protocol):
    """Makes calls elsewhere and later."""

    def after(self, seconds: float, call: Callable[[], None]) -> Timer:
        """Make a call once so much time has passed, unless the process ends before."""

    def run(self, call: Callable[[], None]) -> None:
        """Make a call beside the caller; the process does not end before it does."""


class ThreadScheduler:
    """A thread for each call."""

    def after(self, seconds: float, call: Callable[[], None]) -> Timer:
        """Make a call once so much time has passed, unless the process ends before."""
        timer = threading.Timer(seconds, call)
        timer.daemon = True
        timer.start()
        return timer

    def run(self, call: Callable[[], None]) -> None:
        """Make a call beside the caller; the process does not end before it does."""
        threading.Thread(target=call, name="unload").start()
