"""When refusals are sent."""

from __future__ import annotations

import time

import pytest

from servable_serving.server.refusals import Refusals


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, in a list of one."""
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    return clock


def test_a_few_are_sent_at_once(now: list[float]) -> None:
    refusals = Refusals()
    assert [refusals.delay() for _ in range(100)] == [0.0] * 100
    now[0] += 1
    assert refusals.delay() == 0.0


@pytest.mark.usefixtures("now")
def test_many_are_spread() -> None:
    refusals = Refusals()
    delays = [refusals.delay() for _ in range(5000)]
    assert delays[:300] == sorted(delays[:300])
    assert delays[200] == pytest.approx(0.5, abs=0.01)
    assert max(delays) <= 2.0
    assert len({round(delay, 3) for delay in delays[1000:]}) > 100


def test_all_are_sent_at_once_again_later(now: list[float]) -> None:
    refusals = Refusals()
    for _ in range(5000):
        refusals.delay()
    now[0] += 2.6
    assert refusals.delay() == 0.0


def test_none_is_sent_after_the_deadline(now: list[float]) -> None:
    refusals = Refusals()
    delays = [refusals.delay(deadline=now[0] + 0.2) for _ in range(1000)]
    assert max(delays) == pytest.approx(0.1)
    assert refusals.delay(deadline=now[0] - 1) == 0.0
