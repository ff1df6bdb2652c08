"""Threads that run requests, with a bounded queue in front of them."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from servable_serving.core.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

T = TypeVar("T")

# In the words of TensorFlow's session.
TIMED_OUT = "Timed out waiting for notification"


class QueueFullError(ModelError):
    """Too many requests wait already."""

    def __init__(self) -> None:
        super().__init__("RESOURCE_EXHAUSTED", "Too many requests are waiting; retry later")


class WorkQueue:
    """A pool of threads that refuses what it could begin only after many others.

    What waits is not begun if its deadline has passed, or if its future was cancelled because the
    caller has left.

    Args:
        threads: Requests that run at a time.
        waiting: Requests that may wait.
        name: Of the threads.
    """

    def __init__(self, threads: int, waiting: int, name: str) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._room = threads + waiting
        self._inside = 0
        self._lock = threading.Lock()

    @property
    def is_full(self) -> bool:
        """Whether another request would be refused."""
        return self._inside >= self._room

    def submit(self, work: Callable[[], T], *, deadline: float | None = None) -> Future[T]:
        """Run `work` in a thread, when its turn comes.

        Args:
            work: What to do.
            deadline: Until when it may begin, by time.monotonic; else its future has a ModelError,
                DEADLINE_EXCEEDED.

        Raises:
            QueueFullError: Too many wait.
        """
        with self._lock:
            if self._inside >= self._room:
                raise QueueFullError
            self._inside += 1

        def begin() -> T:
            if deadline is not None and time.monotonic() > deadline:
                raise ModelError("DEADLINE_EXCEEDED", TIMED_OUT)
            return work()

        try:
            future = self._pool.submit(begin)
        except BaseException:
            self._leave()
            raise
        # Called at a cancellation too, long before a thread would come to it.
        future.add_done_callback(self._leave)
        return future

    def close(self) -> None:
        """Begin nothing more; what runs is not waited for."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _leave(self, _: object = None) -> None:
        with self._lock:
            self._inside -= 1
