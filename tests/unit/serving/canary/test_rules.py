"""The rules by which a version is promoted, over requests that were counted."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from servable_serving.canary.mirror_meter import Compared
from servable_serving.canary.rules import (
    PromotionRules,
    fails_mirrored,
    too_different,
    too_few,
    too_many_errors,
    too_slow,
)
from servable_serving.canary.traffic_meter import Tally
from servable_serving.core.statistics import psi, psi_by_chance

if TYPE_CHECKING:
    from collections.abc import Mapping

RULES = PromotionRules(max_errors=0.01, max_latency_ratio=1.5, min_requests=100)
NOTHING = Tally()


def answered(ok: int, **failed: int) -> Tally:
    return Tally({"OK": ok, **failed})


def within(buckets: Mapping[float, float], ok: int = 1000) -> Tally:
    return Tally({"OK": ok}, {**buckets, math.inf: ok})


def test_a_version_without_errors_passes() -> None:
    assert too_many_errors(answered(100), answered(100), RULES, surely=False) == ""


def test_a_version_without_requests_has_no_errors() -> None:
    assert too_many_errors(NOTHING, answered(100), RULES, surely=False) == ""


def test_as_many_errors_as_allowed_pass() -> None:
    assert too_many_errors(answered(99, INTERNAL=1), answered(100), RULES, surely=False) == ""


def test_one_error_more_than_allowed_fails() -> None:
    assert too_many_errors(answered(98, INTERNAL=2), answered(100), RULES, surely=False)


def test_the_limit_is_above_the_errors_of_stable() -> None:
    stable = answered(95, INTERNAL=5)
    assert too_many_errors(answered(94, INTERNAL=6), stable, RULES, surely=False) == ""
    assert too_many_errors(answered(93, INTERNAL=7), stable, RULES, surely=False)


def test_a_stable_that_only_fails_allows_anything() -> None:
    stable = Tally({"INTERNAL": 100})
    assert too_many_errors(Tally({"INTERNAL": 100}), stable, RULES, surely=False) == ""


def test_the_reason_names_the_most_frequent_status() -> None:
    canary = answered(10, INTERNAL=3, INVALID_ARGUMENT=7)
    assert "INVALID_ARGUMENT" in too_many_errors(canary, answered(100), RULES, surely=False)


def test_errors_that_may_be_chance_do_not_end_a_running_trial() -> None:
    # One of ten, 1 % allowed: so many by chance in one of ten trials.
    canary = answered(9, INTERNAL=1)
    assert too_many_errors(canary, answered(100), RULES, surely=True) == ""
    assert too_many_errors(canary, answered(100), RULES, surely=False)


def test_errors_beyond_chance_end_a_running_trial() -> None:
    assert too_many_errors(answered(5, INTERNAL=5), answered(100), RULES, surely=True)


def test_one_error_is_beyond_chance_where_none_is_allowed() -> None:
    rules = PromotionRules(max_errors=0.0)
    assert too_many_errors(answered(99, INTERNAL=1), answered(100), rules, surely=True)


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50), st.integers(0, 50))
def test_what_ends_a_running_trial_fails_it_at_the_end_too(
    ok: int, failed: int, stable_ok: int, stable_failed: int
) -> None:
    canary, stable = answered(ok, INTERNAL=failed), answered(stable_ok, INTERNAL=stable_failed)
    if too_many_errors(canary, stable, RULES, surely=True):
        assert too_many_errors(canary, stable, RULES, surely=False)


def test_a_version_as_fast_as_stable_passes() -> None:
    tally = within({0.05: 900, 0.1: 1000})
    assert too_slow(tally, tally, RULES) == ""


def test_a_version_beyond_the_ratio_fails() -> None:
    assert too_slow(within({0.1: 0, 0.2: 1000}), within({0.05: 0, 0.1: 1000}), RULES)


def test_a_version_within_the_ratio_passes() -> None:
    assert too_slow(within({0.1: 0, 0.12: 1000}), within({0.05: 0, 0.1: 1000}), RULES) == ""


def test_a_few_milliseconds_are_no_reason_whatever_the_ratio() -> None:
    assert too_slow(within({0.002: 0, 0.004: 1000}), within({0.001: 1000}), RULES) == ""


@pytest.mark.parametrize("few", ["canary", "stable"])
def test_few_successful_requests_say_nothing_of_the_latency(few: str) -> None:
    slow, fast = within({0.5: 0, 1.0: 1000}), within({0.1: 1000})
    assert too_slow(slow, fast, RULES)
    canary = within({0.5: 0, 1.0: 99}, ok=99) if few == "canary" else slow
    stable = within({0.1: 99}, ok=99) if few == "stable" else fast
    assert too_slow(canary, stable, RULES) == ""


def test_failed_requests_do_not_count_as_measured() -> None:
    slow = Tally({"OK": 50, "INTERNAL": 500}, {0.5: 0, 1.0: 50, math.inf: 50})
    assert too_slow(slow, within({0.1: 1000}), RULES) == ""


def test_requests_without_a_histogram_are_not_slow() -> None:
    assert too_slow(answered(1000), answered(1000), RULES) == ""


def test_enough_requests_of_both_are_enough() -> None:
    assert too_few(answered(100), answered(100), RULES) == ""


@pytest.mark.parametrize(
    ("canary", "stable", "named"),
    [
        (answered(99), answered(100), "it got 99"),
        (answered(100), answered(99), "stable got 99"),
        (NOTHING, NOTHING, "it got 0"),
    ],
)
def test_too_few_requests_of_either_are_too_few(canary: Tally, stable: Tally, named: str) -> None:
    assert too_few(canary, stable, RULES).startswith(named)


def test_failed_requests_count_as_requests() -> None:
    assert too_few(answered(0, INTERNAL=100), answered(100), RULES) == ""


def test_a_version_with_all_the_traffic_needs_no_requests_of_stable() -> None:
    rules = PromotionRules(percent=100.0, min_requests=100)
    assert too_few(answered(100), NOTHING, rules) == ""


def compared(
    *,
    requests: int = 200,
    rows: int = 200,
    differ: int = 0,
    errors: int = 0,
    decided: int | None = None,
    shift: float = 0.0,
    apart: float | None = None,
) -> Compared:
    labels = rows if decided is None else decided
    outputs = {} if apart is None else {"y": {"rows": rows, "apart": apart, "column": 2}}

    def side(failed: int) -> dict[str, Any]:
        return {
            "statuses": {"OK": requests - failed, "INTERNAL": failed},
            "seconds": {"p50": 0.01, "p95": 0.01, "p99": 0.01},
        }

    return Compared({
        "requests": requests, "rows": rows, "differ": differ, "decided": labels,
        "changes": [{"against": "Shirt", "version": "Coat", "rows": differ}] if differ else [],
        "shifts": [
            {"of": "classes", "psi": shift, "chance": psi_by_chance(10, rows), "count": rows}
        ] if labels else [],
        "outputs": outputs,
        "version": side(errors), "against": side(0),
    })  # fmt: skip


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (compared(), ""),
        (compared(differ=40), ""),
        (
            compared(differ=41),
            "20.5% of 200 rows differently from stable, most often Coat in place",
        ),
        (compared(decided=0), "its answers cannot be judged"),
        (compared(decided=0, apart=0.2), ""),
        (compared(decided=0, apart=0.64), "column 2 of output y, by 64.0% of its variance"),
        (compared(apart=0.64), "column 2 of output y"),
        (compared(requests=99, apart=1.0), ""),
        (compared(requests=99, rows=200, differ=200), ""),  # too few for a verdict
        (compared(rows=0), "its answers cannot be judged"),
        (compared(rows=0, requests=99), ""),
        (Compared(), ""),
        (compared(errors=3), "1.5% of its 200 requests failed, mostly with INTERNAL"),
        (compared(shift=0.3), ""),  # of 200 rows, that may be chance
        (compared(shift=0.3, rows=20_000), "classes has moved away from that of stable"),
        (compared(shift=0.24, rows=20_000), ""),
    ],
)
def test_answers_to_mirrored_requests(found: Compared, said: str) -> None:
    reason = fails_mirrored(found, PromotionRules(), surely=False)
    assert said in reason
    assert bool(reason) == bool(said)


def test_a_running_trial_ignores_differences_that_may_be_chance() -> None:
    rules = PromotionRules()
    assert not fails_mirrored(compared(differ=45), rules, surely=True)
    assert fails_mirrored(compared(differ=45), rules, surely=False)
    assert fails_mirrored(compared(differ=70), rules, surely=True)


def test_a_running_trial_waits_for_values_unless_they_have_nothing_in_common() -> None:
    rules = PromotionRules()
    assert not fails_mirrored(compared(apart=0.9), rules, surely=True)
    assert fails_mirrored(compared(apart=1.0), rules, surely=True)
    assert not fails_mirrored(compared(rows=0), rules, surely=True)


def test_an_output_that_is_ignored_is_no_verdict() -> None:
    rules = PromotionRules(ignore=("y",))
    assert not fails_mirrored(compared(apart=1.0), rules, surely=False)
    assert "cannot be judged" in fails_mirrored(compared(apart=0.0, decided=0), rules, surely=False)


def test_with_a_limit_of_all_no_difference_is_a_reason() -> None:
    rules = PromotionRules(max_differ=1.0)
    assert not fails_mirrored(compared(differ=200, apart=1.0), rules, surely=False)


def test_the_limit_of_psi_is_rarely_exceeded_by_chance() -> None:
    draw = np.random.default_rng(5)
    rules, shares = PromotionRules(max_psi=0.0), np.full(10, 0.1)
    beyond = 0
    for _ in range(500):
        one, other = (draw.multinomial(300, shares).tolist() for _ in range(2))
        beyond += bool(
            too_different(compared(rows=300, shift=psi(one, other)), rules, surely=False)
        )
    assert beyond <= 10
