"""How two versions answer the same requests, added up."""

from __future__ import annotations

import random
import threading
from collections import Counter
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from servable_serving.core.statistics import psi
from servable_serving.mirror.answers import (
    changed_rows,
    confidences,
    decisions,
    row_in_words,
    values,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from servable_serving.mirror.answers import Answer

# Of each version: times, and values of a version that decides nothing.
_MOST_SAMPLES = 10_000
_MOST_EXAMPLES = 20
# Classes that are counted by name; the rest share one.
_MOST_CLASSES = 2000
_BINS = 10
_QUANTILES = np.linspace(0, 1, _BINS + 1)[1:-1]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request to one version.

    Attributes:
        status: The name of the status, "OK" if it was answered.
        seconds: How long it took.
        answer: The answer; None if there is none.
    """

    status: str
    seconds: float
    answer: Answer | None = None


@dataclass(frozen=True, kw_only=True)
class Pair:
    """The versions that are compared.

    Attributes:
        model: The model's name.
        version: The version on trial.
        name: The model's name by which that is asked.
        against: The version in service.
        until: The end of the trial, in seconds since 1970: two trials of the same versions differ.
    """

    model: str
    version: int
    name: str
    against: int
    until: int


class Reservoir:
    """A uniform sample of numbers: Vitter, "Random Sampling with a Reservoir", 1985."""

    def __init__(self, most: int = _MOST_SAMPLES) -> None:
        self._most, self._seen = most, 0
        self.kept: list[float] = []

    def add(self, value: float) -> None:
        """Keep a number, or not."""
        self._seen += 1
        if len(self.kept) < self._most:
            self.kept.append(value)
        elif (place := random.randrange(self._seen)) < self._most:
            self.kept[place] = value


class Side:
    """One version's answers."""

    def __init__(self) -> None:
        self.statuses: Counter[str] = Counter()
        self.classes: Counter[str] = Counter()
        self.sure = [0] * _BINS
        self.values, self.seconds = Reservoir(), Reservoir()

    def add(self, asked: Asked) -> None:
        """Count a request."""
        self.statuses[asked.status] += 1
        if asked.answer is not None:
            self.seconds.add(asked.seconds)

    def decide(self, answer: Answer, decided: NDArray[Any]) -> None:
        """Count what was decided, and how sure it was."""
        for name in map(_name, decided.tolist()):
            known = name in self.classes or len(self.classes) < _MOST_CLASSES
            self.classes[name if known else "others"] += 1
        sure = confidences(answer)
        if sure is not None:
            places = np.clip((sure * _BINS).astype(int), 0, _BINS - 1)
            for place, count in enumerate(np.bincount(places, minlength=_BINS).tolist()):
                self.sure[place] += count

    def value(self, answer: Answer) -> None:
        """Keep the values of an answer that decides nothing."""
        found = values(answer)
        for value in () if found is None else found.tolist():
            self.values.add(value)

    def as_json(self) -> dict[str, Any]:
        """As JSON values; latencies in seconds."""
        requests = self.statuses.total()
        return {
            "requests": requests,
            "errors": requests - self.statuses["OK"],
            "statuses": dict(sorted(self.statuses.items())),
            "seconds": {
                name: float(np.quantile(self.seconds.kept, share)) if self.seconds.kept else None
                for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
            },
            "classes": dict(self.classes.most_common(50)),
            "confidences": self.sure,
        }


class Comparison:
    """How two versions answer the same requests; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._version, self._against = Side(), Side()
        self._transports: Counter[str] = Counter()
        self._rows = self._differ = 0
        self._pairs: Counter[tuple[str, str]] = Counter()
        self._examples: list[dict[str, Any]] = []
        self._dropped = 0

    def dropped(self) -> None:
        """Count a request that was not asked again."""
        with self._lock:
            self._dropped += 1

    def add(self, name: str, transport: str, version: Asked, against: Asked) -> None:
        """Count a request that both versions were asked.

        Args:
            name: The request's id.
            transport: "grpc" or "rest".
            version: Of the version on trial.
            against: Of the version in service.
        """
        with self._lock:
            self._transports[transport] += 1
            self._version.add(version)
            self._against.add(against)
            if version.answer is not None and against.answer is not None:
                self._compare(name, version.answer, against.answer)

    def _compare(self, name: str, version: Answer, against: Answer) -> None:
        changed, count = changed_rows(against, version)
        self._rows += count
        self._differ += int(changed.sum())
        rows = list(map(int, np.flatnonzero(changed)))
        left = _MOST_EXAMPLES - len(self._examples)
        self._examples += [
            {
                "request": name,
                "row": row,
                "against": row_in_words(against, row),
                "version": row_in_words(version, row),
            }
            for row in islice(rows, left)
        ]
        sides, answers = (self._against, self._version), (against, version)
        decided = decisions(*answers)
        if decided is None:
            for side, answer in zip(sides, answers, strict=True):
                side.value(answer)
            return
        for side, answer, one in zip(sides, answers, decided, strict=True):
            side.decide(answer, one)
        if len(decided[0]) == len(decided[1]):
            for row in rows:
                self._pairs[_name(decided[0][row]), _name(decided[1][row])] += 1

    def as_json(self) -> dict[str, Any]:
        """As JSON values.

        `shifts` has the population stability index of the classes, of the confidences in tenths,
        and, of versions that decide nothing, of the values in tenths of the served version's.
        """
        with self._lock:
            mine, theirs = self._version, self._against
            names = sorted({*mine.classes, *theirs.classes})
            sides = (theirs, mine)
            shifts = {
                "classes": _shift([[side.classes[name] for name in names] for side in sides]),
                "confidences": _shift([side.sure for side in sides]),
                "values": _shift(_binned([side.values.kept for side in sides])),
            }
            return {
                "requests": self._transports.total(),
                "transports": dict(sorted(self._transports.items())),
                "dropped": self._dropped,
                "rows": self._rows,
                "differ": self._differ,
                "decided": bool(names),
                "shifts": {name: found for name, found in shifts.items() if found is not None},
                "version": mine.as_json(),
                "against": theirs.as_json(),
                "changes": [
                    {"against": one, "version": other, "rows": rows}
                    for (one, other), rows in self._pairs.most_common(10)
                ],
                "examples": list(self._examples),
            }


def _shift(counts: Sequence[Sequence[int]]) -> dict[str, Any] | None:
    """The index of two distributions; None if either is empty."""
    if not all(map(any, counts)):
        return None
    return {"psi": psi(*counts), "bins": len(counts[0]), "count": min(map(sum, counts))}


def _binned(samples: Sequence[Sequence[float]]) -> list[list[int]]:
    """Counts in tenths of the first sample."""
    if not samples[0]:
        return [[], []]
    edges = np.unique(np.quantile(samples[0], _QUANTILES))
    return [
        np.bincount(np.searchsorted(edges, found), minlength=len(edges) + 1).tolist()
        for found in samples
    ]


def _name(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
