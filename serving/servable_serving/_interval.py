"""How far a share that was counted may be from the true one."""

from __future__ import annotations

import math

# The standard normal distribution's 97.5 % point: 95 % lie within it on either side.
Z = 1.959963984540054


def wilson_interval(right: int, count: int) -> tuple[float, float]:
    """Where the true share lies with 95 % confidence, when `right` of `count` were right.

    By Wilson's score interval (1927), which stays within 0 and 1 and holds for shares near either,
    where the usual plus-minus does not.

    Raises:
        ValueError: `count` is none, or `right` not within it.
    """
    if not 0 <= right <= count or count < 1:
        raise ValueError(f"{right} of {count} is no share")
    share, z2 = right / count, Z * Z
    middle = share + z2 / (2 * count)
    half = Z * math.sqrt(share * (1 - share) / count + z2 / (4 * count * count))
    scale = 1 + z2 / count
    return max((middle - half) / scale, 0.0), min((middle + half) / scale, 1.0)
