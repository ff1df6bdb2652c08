"""Confidence intervals and tests of proportions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

# The standard normal distribution's 97.5 % point: 95 % lie within it on either side.
Z = 1.959963984540054


def binomial_tail(least: int, count: int, share: float) -> float:
    """The probability of at least `least` of `count` successes, each of probability `share`."""
    if share <= 0.0:
        return 0.0
    # By logarithms: binomial coefficients overflow a float.
    log, rest = math.log(share), math.log1p(-share)
    whole = math.lgamma(count + 1)
    return math.fsum(
        math.exp(
            whole - math.lgamma(k + 1) - math.lgamma(count - k + 1) + k * log + (count - k) * rest
        )
        for k in range(least, count + 1)
    )


def wilson_interval(right: int, count: int) -> tuple[float, float]:
    """The 95 % confidence interval of a proportion, `right` of `count`.

    By Wilson's score interval (1927), which stays within 0 and 1 and holds for shares near either,
    where the usual plus-minus does not.

    Raises:
        ValueError: `count` is none, or `right` not within it.
    """
    if not 0 <= right <= count or count < 1:
        raise ValueError(f"{right} of {count} is not a valid share")
    share, z2 = right / count, Z * Z
    middle = share + z2 / (2 * count)
    half = Z * math.sqrt(share * (1 - share) / count + z2 / (4 * count * count))
    scale = 1 + z2 / count
    return max((middle - half) / scale, 0.0), min((middle + half) / scale, 1.0)


def psi(expected: Sequence[int], found: Sequence[int]) -> float:
    """The population stability index of two distributions over the same bins, 0 if they are alike.

    Half a count is added to each bin, so that an empty one has a logarithm. Values above 0.1 are
    usually called a small shift, above 0.25 a large one (Siddiqi, "Credit Risk Scorecards", 2006).

    Args:
        expected: The counts that are compared with.
        found: The counts of the other.

    Returns:
        The index; 0 if either is empty.
    """
    total, others = sum(expected), sum(found)
    if not total or not others:
        return 0.0
    half = len(expected) / 2
    shares = [
        ((one + 0.5) / (total + half), (other + 0.5) / (others + half))
        for one, other in zip(expected, found, strict=True)
    ]
    return math.fsum((other - one) * math.log(other / one) for one, other in shares)


def psi_by_chance(bins: int, count: int) -> float:
    """What the index of two samples of one distribution hardly exceeds.

    The index of independent samples is distributed as chi-squared with `bins` - 1 degrees of
    freedom, times the sum of the samples' inverse sizes: Yurdakul, "Statistical Properties of
    Population Stability Index", 2018. This is its mean and three standard deviations.
    """
    return (bins - 1 + 3 * math.sqrt(2 * (bins - 1))) * 2 / count
