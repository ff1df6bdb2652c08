"""Threads and timers of the version manager."""

from __future__ import annotations

import threading

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
