"""The retry policy and the budget of retries."""

from __future__ import annotations

from typing import Any

import pytest

from servable_client import InvalidInput, Retry
from servable_client.engine.retry import Budget
from servable_client.types.operations import Failure


@pytest.mark.parametrize(
    ("attempt", "limit"), [(1, 0.1), (2, 0.2), (3, 0.4), (4, 0.8), (5, 1), (60, 1), (5000, 1)]
)
def test_a_wait_is_drawn_up_to_a_limit_that_doubles(
    attempt: int, limit: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        drawn.append((low, high))
        return high

    monkeypatch.setattr("random.uniform", uniform)
    assert Retry(initial=0.1, maximum=1).wait(attempt) == pytest.approx(limit)
    ((low, high),) = drawn
    assert (low, high) == pytest.approx((0, limit))


@pytest.mark.parametrize(
    "options",
    [
        {"attempts": 0},
        {"attempts": -3},
        {"initial": -1},
        {"initial": 3, "maximum": 2},
        {"budget": -1},
        {"initial": float("nan")},
    ],
    ids=str,
)
def test_an_invalid_policy_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        Retry(**options)


def test_a_budget_ends() -> None:
    budget = Budget(2)
    assert [budget.take() for _ in range(4)] == [True, True, False, False]


def test_a_budget_of_nothing_gives_nothing() -> None:
    assert not Budget(0).take()


def test_ten_successes_pay_for_one_retry() -> None:
    budget = Budget(1)
    budget.take()
    for _ in range(9):
        budget.refund()
    assert not budget.take()
    for _ in range(2):
        budget.refund()
    assert budget.take()


def test_successes_do_not_pile_up_beyond_the_capacity() -> None:
    budget = Budget(1)
    for _ in range(100):
        budget.refund()
    assert [budget.take(), budget.take()] == [True, False]


def sized(size: int, **options: Any) -> Failure:
    failure = Failure("RESOURCE_EXHAUSTED", "", **options)
    failure.request_size = size
    return failure


@pytest.mark.parametrize(
    ("failure", "transient"),
    [
        (Failure("UNAVAILABLE", ""), True),
        (Failure("UNAVAILABLE", "", refuses_retry=True), False),
        (Failure("RESOURCE_EXHAUSTED", ""), True),
        (Failure("RESOURCE_EXHAUSTED", "", refuses_retry=True), False),
        (Failure("RESOURCE_EXHAUSTED", "", http_status=429), False),
        (Failure("RESOURCE_EXHAUSTED", "", http_status=429, retry_after=0), True),
        (sized(4 << 20), True),
        (sized((4 << 20) + 1), False),
        (sized(5 << 20, retry_after=1), True),
        (Failure("RESOURCE_EXHAUSTED", "", retry_after=0), True),
        (Failure("DEADLINE_EXCEEDED", "", http_status=504), True),
        (Failure("DEADLINE_EXCEEDED", ""), False),
        (Failure("INTERNAL", "", http_status=500), False),
    ],
)
def test_which_failures_are_transient(failure: Failure, transient: bool) -> None:
    assert failure.is_transient is transient


@pytest.mark.parametrize(
    ("failure", "timed_out"),
    [
        (Failure("DEADLINE_EXCEEDED", ""), True),
        (Failure("DEADLINE_EXCEEDED", "", http_status=504), False),
        (Failure("UNAVAILABLE", ""), False),
    ],
)
def test_which_failures_ran_out_of_time(failure: Failure, timed_out: bool) -> None:
    assert failure.timed_out is timed_out
