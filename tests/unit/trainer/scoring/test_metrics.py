"""The figures of an evaluation, held against what is worked out by hand or was published."""

from __future__ import annotations

import math

import numpy as np
import pytest

from servable_serving.core.statistics import wilson_interval
from servable_trainer.scoring.metrics import (
    cooled,
    expected_calibration_error,
    fit_temperature,
    negative_log_likelihood,
    reliability,
)


@pytest.mark.parametrize(
    ("right", "count", "low", "high"),
    [
        # Newcombe 1998, Statistics in Medicine 17, table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (20, 20, 1 - 0.1611, 1.0),
    ],
)
def test_the_interval_is_the_published_one(right: int, count: int, low: float, high: float) -> None:
    assert wilson_interval(right, count) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(("right", "count"), [(0, 0), (3, 2), (-1, 2)])
def test_what_is_no_share_has_no_interval(right: int, count: int) -> None:
    with pytest.raises(ValueError, match="not a valid share"):
        wilson_interval(right, count)


def test_the_calibration_error_by_hand() -> None:
    # Five pictures in three of four bins: one at 0.4 wrong, two at 0.7 with one right, two at
    # 0.9 and 1.0, both right.
    sure = np.array([0.4, 0.7, 0.7, 0.9, 1.0])
    probabilities = np.stack([sure, (1 - sure) * 0.6, (1 - sure) * 0.4], axis=1)
    targets = np.array([1, 0, 2, 0, 0])
    bins = reliability(targets, probabilities, bins=4)
    assert [b.count for b in bins] == [0, 1, 2, 2]
    assert [b.accuracy for b in bins] == [0, 0, 0.5, 1]
    assert [b.confidence for b in bins] == pytest.approx([0, 0.4, 0.7, 0.95])
    by_hand = (1 * 0.4 + 2 * 0.2 + 2 * 0.05) / 5
    assert expected_calibration_error(bins) == pytest.approx(by_hand)


def test_each_picture_is_in_one_bin() -> None:
    sure = np.array([0.5, 0.5 + 1 / 15, 14 / 15, 1.0])
    bins = reliability(np.zeros(4, np.int64), np.stack([sure, 1 - sure], axis=1))
    assert len(bins) == 15
    assert sum(b.count for b in bins) == 4
    assert bins[-1].count == 2  # both 14/15 and 1


def test_the_likelihood_by_hand() -> None:
    probabilities = np.array([[0.5, 0.5], [0.25, 0.75]])
    found = negative_log_likelihood(np.array([0, 1]), probabilities)
    assert found == pytest.approx((math.log(2) - math.log(0.75)) / 2)
    # A probability of nothing costs much, and is no infinity.
    assert 80 < negative_log_likelihood(np.array([0]), np.array([[0.0, 1.0]])) < 100


def test_a_temperature_evens_out_or_sharpens() -> None:
    probabilities = np.array([[0.8, 0.2], [0.5, 0.5]])
    # Logits ln 4 and 0; halved they are ln 2 and 0.
    assert cooled(probabilities, 2) == pytest.approx(np.array([[2 / 3, 1 / 3], [0.5, 0.5]]))
    assert cooled(probabilities, 0.5) == pytest.approx(np.array([[16 / 17, 1 / 17], [0.5, 0.5]]))
    assert cooled(probabilities, 1) == pytest.approx(probabilities)


def test_the_temperature_by_hand() -> None:
    # Always 0.9 sure, and right 3 times of 4: the best is p = 3/4, where ln 9 / T = ln 3.
    probabilities = np.array([[0.9, 0.1]] * 4)
    assert fit_temperature(np.array([0, 0, 0, 1]), probabilities) == pytest.approx(2, rel=1e-3)


def test_the_temperature_that_spoilt_the_answers_is_found_again() -> None:
    generator = np.random.default_rng(3)
    logits = generator.normal(0, 2, (20_000, 10))
    honest = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    targets = (honest.cumsum(axis=1) < generator.random((20_000, 1))).sum(axis=1)
    too_sure = cooled(honest, 1 / 2.5)
    found = fit_temperature(targets, too_sure)
    assert found == pytest.approx(2.5, rel=0.03)
    before, after = (
        expected_calibration_error(reliability(targets, p))
        for p in (too_sure, cooled(too_sure, found))
    )
    assert before > 0.1
    assert after < 0.015
