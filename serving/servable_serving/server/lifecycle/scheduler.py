"""Threads and timers of the version manager, behind a protocol for tests."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

_log = logging.getLogger("servable.serving")


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
    """A thread for each call later, and a pool for those in the background.

    Args:
        threads: How many calls are made in the background at a time; 0 for one.
    """

    def __init__(self, threads: int = 0) -> None:
        self._pool = ThreadPoolExecutor(max(threads, 1), thread_name_prefix="unload")

    def after(self, seconds: float, call: Callable[[], None]) -> Timer:
        """Make a call after a delay, unless the process exits first."""
        timer = threading.Timer(seconds, call)
        timer.daemon = True
        timer.start()
        return timer

    def run(self, call: Callable[[], None]) -> None:
        """Make a call in the background; the process does not exit before it returns."""
        self._pool.submit(call).add_done_callback(_log_failure)


def _log_failure(future: Future[None]) -> None:
    if (error := future.exception()) is not None:
        _log.error("a call in the background failed", exc_info=error)
