"""The answers of each version by window, and how far they are from those at its export."""

from __future__ import annotations

import threading
import time
from collections import deque
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from servable_serving.mirror.profile import Profile, shifts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray
    from prometheus_client.core import Metric

    from servable_serving.mirror.answers import Answer

    Version = tuple[str, int]

# A window slides by this part of it.
_SLOTS = 10
# Versions that are kept; those without requests for two windows are forgotten.
_MOST_VERSIONS = 100
# Classes with a series of their own.
_MOST_CLASSES = 100


class Drift(Collector):
    """Counts answers, and compares those of a window with a reference; thread-safe.

    Args:
        reference: Finds the profile of a version that its manifest holds; None if there is none.
        window: Seconds that are compared.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        reference: Callable[[str, int], Profile | None],
        *,
        window: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reference, self.window, self._clock = reference, window, clock
        self._lock = threading.Lock()
        self._total: dict[Version, Profile] = {}
        self._slots: dict[Version, deque[tuple[int, Profile]]] = {}

    def add(
        self, model: str, version: int, inputs: Mapping[str, NDArray[Any]], answer: Answer
    ) -> None:
        """Count a request that a version answered."""
        one = Profile()
        one.add(inputs, answer)
        slot = self._slot()
        with self._lock:
            key = model, version
            if key not in self._total and len(self._total) >= _MOST_VERSIONS:
                return
            self._total.setdefault(key, Profile()).merge(one)
            slots = self._slots.setdefault(key, deque())
            if not slots or slots[-1][0] != slot:
                slots.append((slot, Profile()))
            slots[-1][1].merge(one)

    def as_json(self) -> list[dict[str, Any]]:
        """Each version's window, and how far it is from the reference, as JSON values."""
        return [
            {
                "model": model,
                "version": version,
                "window_seconds": self.window,
                "rows": found.rows,
                "profile": found.as_json(),
                "reference": reference is not None,
                "shifts": [
                    {**vars(shift), "limit": shift.limit, "drifted": shift.drifted}
                    for shift in (shifts(reference, found) if reference is not None else ())
                ],
            }
            for (model, version), found in self._windows().items()
            for reference in [self._reference(model, version)]
        ]

    def collect(self) -> Iterator[Metric]:
        """The counts since the start, and the figures of the window."""
        with self._lock:
            totals = deepcopy(self._total)
        yield _class_counts(totals)
        for name, text, attribute, largest in (
            ("confidence", "Probability of the answer.", "confidences", 1.0),
            ("input_brightness", "Mean of an image's values.", "brightness", 256.0),
            ("input_contrast", "Standard deviation of an image's values.", "contrast", 128.0),
        ):
            yield _histogram(f"servable_{name}", text, totals, attribute, largest)
        names = ["model", "version", "of"]
        psi = GaugeMetricFamily(
            "servable_drift_psi",
            "Population stability index of the window against the version's reference.",
            labels=names,
        )
        limit = GaugeMetricFamily(
            "servable_drift_limit",
            "What the index exceeds if the shift is neither small nor chance.",
            labels=names,
        )
        rows = GaugeMetricFamily(
            "servable_drift_rows", "Rows in the window.", labels=["model", "version"]
        )
        for found in self.as_json():
            labels = [found["model"], str(found["version"])]
            rows.add_metric(labels, found["rows"])
            for shift in found["shifts"]:
                psi.add_metric([*labels, shift["of"]], shift["psi"])
                limit.add_metric([*labels, shift["of"]], shift["limit"])
        yield psi
        yield limit
        yield rows

    def describe(self) -> list[Metric]:
        """No names in advance; without this prometheus_client would collect at once."""
        return []

    def _slot(self) -> int:
        return int(self._clock() / (self.window / _SLOTS))

    def _windows(self) -> dict[Version, Profile]:
        oldest = self._slot() - _SLOTS
        found: dict[Version, Profile] = {}
        with self._lock:
            for key, slots in list(self._slots.items()):
                while slots and slots[0][0] <= oldest:
                    slots.popleft()
                if not slots:
                    del self._slots[key], self._total[key]
                    continue
                found[key] = Profile()
                for _, one in slots:
                    found[key].merge(one)
        return found


def _class_counts(totals: Mapping[Version, Profile]) -> CounterMetricFamily:
    counts = CounterMetricFamily(
        "servable_answers",
        "Rows that were observed, by their label or class.",
        labels=["model", "version", "class"],
    )
    for (model, version), one in totals.items():
        common = one.classes.most_common(_MOST_CLASSES)
        for name, count in common:
            counts.add_metric([model, str(version), name], count)
        if rest := one.classes.total() - sum(count for _, count in common):
            counts.add_metric([model, str(version), "other classes"], rest)
    return counts


def _histogram(
    name: str, text: str, totals: Mapping[Version, Profile], attribute: str, largest: float
) -> HistogramMetricFamily:
    family = HistogramMetricFamily(name, text, labels=["model", "version"])
    for (model, version), one in totals.items():
        bins = getattr(one, attribute)
        if not any(bins):
            continue
        width, below = largest / len(bins), 0
        buckets = []
        for place, count in enumerate(bins, start=1):
            below += count
            buckets.append((f"{place * width:g}", float(below)))
        buckets.append(("+Inf", float(below)))
        family.add_metric([model, str(version)], buckets, sum_value=None)
    return family
