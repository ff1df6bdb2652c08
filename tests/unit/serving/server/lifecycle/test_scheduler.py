"""Threads and timers of the version manager."""

from __future__ import annotations

import threading

import pytest

from servable_serving.server.lifecycle.scheduler import ThreadScheduler

HANG = 60.0


def test_a_call_is_made_in_another_thread() -> None:
    made: list[int] = []
    done = threading.Event()

    def call() -> None:
        made.append(threading.get_ident())
        done.set()

    ThreadScheduler().run(call)
    assert done.wait(HANG)
    assert made != [threading.get_ident()]


@pytest.mark.parametrize(("threads", "at_once"), [(0, 1), (1, 1), (2, 2)])
def test_calls_in_the_background_at_a_time(threads: int, at_once: int) -> None:
    scheduler = ThreadScheduler(threads)
    begun, going_on = threading.Semaphore(0), threading.Event()

    def call() -> None:
        begun.release()
        assert going_on.wait(HANG)

    for _ in range(at_once + 1):
        scheduler.run(call)
    for _ in range(at_once):
        assert begun.acquire(timeout=HANG)
    assert not begun.acquire(blocking=False)
    going_on.set()
    assert begun.acquire(timeout=HANG)


def test_a_failed_call_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    scheduler, done = ThreadScheduler(), threading.Event()

    def fail() -> None:
        raise ValueError("broken")

    scheduler.run(fail)
    scheduler.run(done.set)  # after it: there is one thread
    assert done.wait(HANG)
    assert "broken" in caplog.text


def test_a_timer_makes_its_call() -> None:
    done = threading.Event()
    ThreadScheduler().after(0, done.set)
    assert done.wait(HANG)


def test_a_cancelled_timer_makes_no_call() -> None:
    done = threading.Event()
    timer = ThreadScheduler().after(3600, done.set)
    timer.cancel()
    assert isinstance(timer, threading.Timer)
    timer.join(HANG)
    assert not timer.is_alive()
    assert not done.is_set()
