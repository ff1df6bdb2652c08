"""What a model was asked and what it answered, as counts; no input is kept."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from servable_serving.core.statistics import psi, psi_by_chance
from servable_serving.mirror.answers import confidences, decisions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from servable_serving.mirror.answers import Answer

_TENTHS, _SIXTEENTHS = 10, 16
# Images have 0 to 255; half of that is the largest standard deviation.
_BRIGHTEST, _LARGEST_CONTRAST = 256.0, 128.0
_MOST_CLASSES = 2000
# The axes of an image, and the rows.
_IMAGE_RANK = 3
# A shift that is usually called large; see `psi`.
MAX_PSI = 0.25


@dataclass
class Profile:
    """The distribution of answers and of inputs.

    Attributes:
        rows: Rows that were answered.
        classes: How often each label or class was the answer.
        confidences: How often the probability of the answer was in each tenth, from 0 to 1.
        brightness: How often the mean of an image's values was in each sixteenth, from 0 to 256.
        contrast: How often their standard deviation was in each sixteenth, from 0 to 128.
    """

    rows: int = 0
    classes: Counter[str] = field(default_factory=Counter)
    confidences: list[int] = field(default_factory=lambda: [0] * _TENTHS)
    brightness: list[int] = field(default_factory=lambda: [0] * _SIXTEENTHS)
    contrast: list[int] = field(default_factory=lambda: [0] * _SIXTEENTHS)

    def add(self, inputs: Mapping[str, NDArray[Any]], answer: Answer) -> None:
        """Count a request: images among its inputs, and what was decided."""
        decided, sure = decisions(answer), confidences(answer)
        if decided is not None:
            self.decide(decided[0])
        if sure is not None:
            self.trust(sure)
        for array in inputs.values():
            if array.ndim >= _IMAGE_RANK and array.dtype.kind in "uif" and array.size:
                pixels = array.reshape(len(array), -1).astype(np.float64)
                _count(self.brightness, pixels.mean(axis=1) * (_SIXTEENTHS / _BRIGHTEST))
                _count(self.contrast, pixels.std(axis=1) * (_SIXTEENTHS / _LARGEST_CONTRAST))
                break

    def decide(self, decided: NDArray[Any]) -> None:
        """Count labels or classes, of shape (rows,)."""
        self.rows += len(decided)
        for name in map(class_name, decided.tolist()):
            known = name in self.classes or len(self.classes) < _MOST_CLASSES
            self.classes[name if known else "others"] += 1

    def trust(self, sure: NDArray[Any]) -> None:
        """Count probabilities of the most likely class, of shape (rows,)."""
        _count(self.confidences, sure * _TENTHS)

    def merge(self, other: Profile) -> None:
        """Add the counts of another one."""
        self.rows += other.rows
        self.classes.update(other.classes)
        for name in _BINNED:
            mine, theirs = getattr(self, name), getattr(other, name)
            setattr(self, name, [one + two for one, two in zip(mine, theirs, strict=True)])

    def as_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "rows": self.rows,
            "classes": dict(self.classes),
            **{name: list(getattr(self, name)) for name in _BINNED},
        }

    @classmethod
    def read(cls, found: Any) -> Self | None:
        """One of `as_json`; None if it is not valid."""
        try:
            profile = cls(
                rows=int(found["rows"]),
                classes=Counter({str(name): int(n) for name, n in found["classes"].items()}),
                **{name: [int(count) for count in found[name]] for name in _BINNED},
            )
        except (LookupError, TypeError, ValueError, AttributeError):
            return None
        sizes = {name: len(getattr(profile, name)) for name in _BINNED}
        return profile if sizes == _BINNED else None


_BINNED = {"confidences": _TENTHS, "brightness": _SIXTEENTHS, "contrast": _SIXTEENTHS}


def class_name(value: Any) -> str:
    """A label or class as text."""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _count(bins: list[int], places: NDArray[Any]) -> None:
    whole = np.clip(np.nan_to_num(places), 0, len(bins) - 1).astype(int)
    for place, count in enumerate(np.bincount(whole, minlength=len(bins)).tolist()):
        bins[place] += count


@dataclass(frozen=True, kw_only=True)
class Shift:
    """How far one distribution has moved.

    Attributes:
        of: "classes", "confidences", "brightness" or "contrast".
        psi: The population stability index.
        ks: The largest difference of the cumulative shares (Kolmogorov-Smirnov), 0 to 1; of
            classes, half the sum of all differences of shares (total variation).
        chance: What the index of two samples of this size hardly exceeds.
        count: The smaller number of values.
    """

    of: str
    psi: float
    ks: float
    chance: float
    count: int

    @property
    def limit(self) -> float:
        """What the index exceeds if the shift is neither small nor chance."""
        return MAX_PSI + self.chance

    @property
    def drifted(self) -> bool:
        """Whether the index is beyond the limit."""
        return self.psi > self.limit


def shifts(reference: Profile, found: Profile) -> list[Shift]:
    """How far each distribution has moved from that of a reference."""
    names = sorted({*reference.classes, *found.classes})
    pairs: dict[str, tuple[Sequence[int], Sequence[int]]] = {
        "classes": ([reference.classes[n] for n in names], [found.classes[n] for n in names]),
        **{name: (getattr(reference, name), getattr(found, name)) for name in _BINNED},
    }
    moved = []
    for of, (one, other) in pairs.items():
        count = min(sum(one), sum(other))
        if count:
            moved.append(
                Shift(
                    of=of,
                    psi=psi(one, other),
                    ks=_difference(one, other, ordered=of != "classes"),
                    chance=psi_by_chance(len(one), count),
                    count=count,
                )
            )
    return moved


def _difference(one: Sequence[int], other: Sequence[int], *, ordered: bool) -> float:
    shares = np.array(other) / sum(other) - np.array(one) / sum(one)
    if ordered:
        return float(np.abs(np.cumsum(shares)).max())
    return math.fsum(np.abs(shares)) / 2
