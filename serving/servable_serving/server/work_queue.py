"""Threads that run requests, with a bounded queue in front of them."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from servable_serving.core.errors import ModelError
from servable_serving.core.priority import lower_priority

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
    caller has left. A queue that overflowed is overloaded until nothing waits any more: meanwhile
    only a quarter of its places are used, since what is accepted would wait for all of them.

    Args:
        threads: Requests that run at a time.
        waiting: Requests that may wait.
        name: Of the threads.
        computes: Whether they run graphs, and so get a lower priority than those that accept
            requests.
    """

    def __init__(self, threads: int, waiting: int, name: str, *, computes: bool = False) -> None:
        self._pool = ThreadPoolExecutor(
            threads, thread_name_prefix=name, initializer=lower_priority if computes else None
        )
        self._threads, self._waiting = threads, waiting
        self._inside = 0
        self._overloaded = False
        self._closed = False
        self._lock = threading.Lock()

    @property
    def is_full(self) -> bool:
        """Whether another request would be refused."""
        with self._lock:
            return self._refuses()

    def submit(self, work: Callable[[], T], *, deadline: float | None = None) -> Future[T]:
        """Run `work` in a thread, when its turn comes.

        Args:
            work: What to do.
            deadline: Until when it may begin, by time.monotonic; else its future has a ModelError,
                DEADLINE_EXCEEDED.

        Raises:
            QueueFullError: Too many wait, or the system has no memory for another thread.
            RuntimeError: The queue is closed.
        """
        with self._lock:
            if self._refuses():
                raise QueueFullError
            self._inside += 1

        refused = False

        def begin() -> T:
            if refused:
                raise QueueFullError
            if deadline is not None and time.monotonic() > deadline:
                raise ModelError("DEADLINE_EXCEEDED", TIMED_OUT)
            return work()

        try:
            future = self._pool.submit(begin)
        except (RuntimeError, MemoryError) as error:
            # It is in the pool's queue already if no thread could be started for it.
            refused = True
            self._leave()
            if self._closed:
                raise
            raise QueueFullError from error
        except BaseException:
            self._leave()
            raise
        # Called at a cancellation too, long before a thread would come to it.
        future.add_done_callback(self._leave)
        return future

    def close(self) -> None:
        """Begin nothing more; what runs is not waited for."""
        self._closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _refuses(self) -> bool:
        waiting = self._inside - self._threads
        if waiting <= 0:
            self._overloaded = False
        elif waiting >= self._waiting:
            self._overloaded = True
        return waiting >= (self._waiting // 4 if self._overloaded else self._waiting)

    def _leave(self, _: object = None) -> None:
        with self._lock:
            self._inside -= 1
