"""How two versions answer the same requests, added up."""

from __future__ import annotations

import random
import threading
from collections import Counter
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from servable_serving.mirror.answers import (
    changed_rows,
    confidences,
    decisions,
    row_in_words,
    undecided,
)
from servable_serving.mirror.outputs import Outputs
from servable_serving.mirror.profile import Profile, class_name, shifts

if TYPE_CHECKING:
    from servable_serving.mirror.answers import Answer

# Times of each version.
_MOST_SAMPLES = 10_000
_MOST_EXAMPLES = 20


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
        self.seconds = Reservoir()
        self.profile = Profile()

    def add(self, asked: Asked) -> None:
        """Count a request."""
        self.statuses[asked.status] += 1
        if asked.answer is not None:
            self.seconds.add(asked.seconds)

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
            "classes": dict(self.profile.classes.most_common(50)),
            "confidences": self.profile.confidences,
        }


class Comparison:
    """How two versions answer the same requests; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._version, self._against = Side(), Side()
        self._transports: Counter[str] = Counter()
        self._rows = self._decided = self._differ = 0
        self._outputs = Outputs()
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
        decided = decisions(against, version)
        for output in against if decided is None else undecided(against):
            # Over REST, the only output has no name.
            known_as = output if len(against) > 1 else ""
            self._outputs.add(known_as, version.get(output), against[output])
        if decided is None:
            return
        self._decided += count
        self._differ += len(rows)
        for side, answer, one in zip(
            (self._against, self._version), (against, version), decided, strict=True
        ):
            side.profile.decide(one)
            sure = confidences(answer)
            if sure is not None:
                side.profile.trust(sure)
        if len(decided[0]) == len(decided[1]):
            for row in rows:
                self._pairs[class_name(decided[0][row]), class_name(decided[1][row])] += 1

    def as_json(self) -> dict[str, Any]:
        """As JSON values.

        `decided` and `differ` are the rows with a label or class of both versions, and of these the
        rows with two different ones; `shifts` has the population stability index of the classes
        and of the confidences, and `outputs` all other outputs: see `Outputs`.
        """
        with self._lock:
            mine, theirs = self._version, self._against
            return {
                "requests": self._transports.total(),
                "transports": dict(sorted(self._transports.items())),
                "dropped": self._dropped,
                "rows": self._rows,
                "decided": self._decided,
                "differ": self._differ,
                "shifts": [vars(shift) for shift in shifts(theirs.profile, mine.profile)],
                "outputs": self._outputs.as_json(),
                "version": mine.as_json(),
                "against": theirs.as_json(),
                "changes": [
                    {"against": one, "version": other, "rows": rows}
                    for (one, other), rows in self._pairs.most_common(10)
                ],
                "examples": list(self._examples),
            }
