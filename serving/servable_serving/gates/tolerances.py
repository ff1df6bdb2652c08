"""How much worse than the served version a candidate may be."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Tolerances:
    """How much worse than the served version a candidate may be.

    Attributes:
        accuracy: How far its share of right answers may lie below, 0 to 1.
        latency: How many times as long its answers may take; half a millisecond more is never
            too much.
        size: How many times as large it may be; a mebibyte more is never too much.
    """

    accuracy: float = 0.005
    latency: float = 1.5
    size: float = 2.0
