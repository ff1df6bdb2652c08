"""Threads for requests with a bounded queue in front of them."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from servable_serving.core.errors import ModelError
from servable_serving.server.work_queue import QueueFullError, WorkQueue

if TYPE_CHECKING:
    from collections.abc import Iterator


class Stage:
    """A queue of one thread and two places, whose thread is busy until it is released."""

    def __init__(self) -> None:
        self.queue = WorkQueue(1, 2, "test")
        self.free = threading.Event()
        began = threading.Event()

        def busy() -> None:
            began.set()
            self.free.wait(60)

        self.first = self.queue.submit(busy)
        assert began.wait(60)


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.free.set()
    stage.queue.close()


def test_what_does_not_fit_is_refused_at_once(stage: Stage) -> None:
    waiting = [stage.queue.submit(lambda: 1) for _ in range(2)]
    assert stage.queue.is_full
    with pytest.raises(QueueFullError) as caught:
        stage.queue.submit(lambda: 1)
    assert caught.value.code == "RESOURCE_EXHAUSTED"
    stage.free.set()
    assert [one.result(60) for one in waiting] == [1, 1]
    assert stage.queue.submit(lambda: 2).result(60) == 2


def test_after_an_overflow_only_a_quarter_waits_until_nothing_does() -> None:
    queue, free = WorkQueue(1, 8, "test"), threading.Event()
    try:
        begun = [queue.submit(free.wait, deadline=None) for _ in range(9)]
        with pytest.raises(QueueFullError):
            queue.submit(free.wait)
        assert all(one.cancel() for one in begun[3:])
        assert queue.is_full  # two wait
        assert begun[2].cancel()
        assert not queue.is_full  # one does
        assert begun[1].cancel()
        assert not queue.is_full
        for _ in range(8):
            queue.submit(free.wait)
        assert queue.is_full
    finally:
        free.set()
        queue.close()


def test_what_gets_no_thread_is_refused_and_never_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_thread(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    begun: list[int] = []
    queue = WorkQueue(1, 2, "test")
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        for _ in range(5):
            with pytest.raises(QueueFullError):
                queue.submit(lambda: begun.append(1))
    assert not queue.is_full
    queue.submit(lambda: begun.append(2)).result(60)
    assert begun == [2]
    queue.close()


def test_what_nobody_waits_for_is_not_begun_and_leaves_its_place(stage: Stage) -> None:
    begun: list[int] = []
    left = [stage.queue.submit(lambda: begun.append(1)) for _ in range(2)]
    assert all(one.cancel() for one in left)
    assert not stage.queue.is_full
    stays = stage.queue.submit(lambda: begun.append(2))
    stage.free.set()
    stays.result(60)
    assert begun == [2]


def test_what_is_too_late_is_not_begun(stage: Stage) -> None:
    begun: list[int] = []
    late = stage.queue.submit(lambda: begun.append(1), deadline=time.monotonic())
    stage.free.set()
    with pytest.raises(ModelError) as caught:
        late.result(60)
    assert (caught.value.code, begun) == ("DEADLINE_EXCEEDED", [])


def test_a_failure_leaves_its_place(stage: Stage) -> None:
    stage.free.set()
    for _ in range(10):
        with pytest.raises(ZeroDivisionError):
            stage.queue.submit(lambda: 1 / 0).result(60)
    assert not stage.queue.is_full
