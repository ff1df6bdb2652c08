"""Confidence intervals and tests of proportions."""

from __future__ import annotations

import math

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
