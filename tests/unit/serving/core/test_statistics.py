"""Figures of counted shares, against values computed elsewhere and properties that must hold."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servable_serving.core.statistics import binomial_tail, psi, wilson_interval

COUNTS = st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
SHARES = st.floats(0.001, 0.999)


@pytest.mark.parametrize(
    ("least", "count", "share", "expected"),
    [
        (1, 1, 0.25, 0.25),
        (0, 10, 0.3, 1.0),
        (10, 10, 0.5, 0.5**10),
        (2, 3, 0.5, 0.5),
        (6, 10, 0.5, 386 / 1024),
        (11, 10, 0.5, 0.0),
        (1, 5, 0.0, 0.0),
    ],
)
def test_a_tail_of_the_binomial_distribution(
    least: int, count: int, share: float, expected: float
) -> None:
    assert binomial_tail(least, count, share) == pytest.approx(expected, abs=1e-12)


def test_a_tail_of_many_requests_stays_finite() -> None:
    # 60,000 requests, 1 % expected: 700 errors are 4.1 standard deviations too many.
    assert 1e-6 < binomial_tail(700, 60_000, 0.01) < 1e-4


@given(COUNTS, SHARES)
def test_a_tail_is_a_probability(counts: tuple[int, int], share: float) -> None:
    assert 0.0 <= binomial_tail(*counts, share) <= 1.0 + 1e-9


@given(COUNTS, SHARES)
def test_more_errors_are_less_likely(counts: tuple[int, int], share: float) -> None:
    least, count = counts
    assert binomial_tail(least + 1, count, share) <= binomial_tail(least, count, share) + 1e-12


@pytest.mark.parametrize(
    ("right", "count", "expected"),
    [
        (0, 10, (0.0, 0.2775)),
        (10, 10, (0.7225, 1.0)),
        (5, 10, (0.2366, 0.7634)),
        (9, 10, (0.5958, 0.9821)),
        (900, 1000, (0.8798, 0.9171)),
    ],
)
def test_an_interval_of_a_share(right: int, count: int, expected: tuple[float, float]) -> None:
    assert wilson_interval(right, count) == pytest.approx(expected, abs=1e-4)


@given(COUNTS)
def test_an_interval_contains_the_share_that_was_counted(counts: tuple[int, int]) -> None:
    right, count = counts
    low, high = wilson_interval(right, count)
    assert 0.0 <= low <= right / count + 1e-12
    assert right / count - 1e-12 <= high <= 1.0


@given(COUNTS)
def test_an_interval_of_the_rest_is_the_mirror_image(counts: tuple[int, int]) -> None:
    right, count = counts
    low, high = wilson_interval(right, count)
    assert wilson_interval(count - right, count) == pytest.approx((1 - high, 1 - low), abs=1e-9)


def test_more_requests_narrow_the_interval() -> None:
    intervals = [wilson_interval(count // 2, count) for count in (10, 100, 1000)]
    widths = [high - low for low, high in intervals]
    assert widths == sorted(widths, reverse=True)


@pytest.mark.parametrize(("right", "count"), [(0, 0), (-1, 5), (6, 5)])
def test_counts_that_are_not_a_share_are_refused(right: int, count: int) -> None:
    with pytest.raises(ValueError, match="of"):
        wilson_interval(right, count)


def test_psi_of_alike_distributions_is_small() -> None:
    assert psi([10, 20, 30], [10, 20, 30]) == 0
    assert psi([100, 200, 300], [10, 20, 30]) < 0.01
    assert psi([0, 0], [1, 2]) == psi([], []) == 0


def test_psi_is_that_of_the_formula() -> None:
    # (0.5 - 0.25) ln(0.5 / 0.25) + (0.5 - 0.75) ln(0.5 / 0.75), half a count hardly changes it.
    assert psi([250_000, 750_000], [500_000, 500_000]) == pytest.approx(0.274653, abs=1e-4)
    assert 1 < psi([1000, 0], [0, 1000]) < 100
