"""What the gateway saw of two versions of a model since a trial of one of them began."""

from __future__ import annotations

import math
import urllib.request
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from prometheus_client.parser import text_string_to_metric_families

from servable_client import ServableError
from servable_serving.gateway.metrics import PREFIX

if TYPE_CHECKING:
    from collections.abc import Mapping

_REQUESTS, _BUCKET = f"{PREFIX}requests_total", f"{PREFIX}request_seconds_bucket"
_SHARE = "servable_model_label_share"
_SECONDS = 10.0
_METHODS = frozenset({"predict", "classify"})
# What the gateway refuses before a version has a say in it, and callers that hung up.
_NOT_THE_VERSIONS = frozenset(
    {"UNAUTHENTICATED", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "CANCELLED"}
)

Series = tuple[str, tuple[tuple[str, str], ...]]


class NoMetrics(ServableError):
    """The gateway's companion does not answer."""


@dataclass(frozen=True)
class Tally:
    """One version's requests.

    Attributes:
        statuses: How many ended with each status.
        buckets: How many that ended well took no longer than a time, by that time in seconds.
    """

    statuses: Mapping[str, int] = field(default_factory=dict)
    buckets: Mapping[float, float] = field(default_factory=dict)

    @property
    def requests(self) -> int:
        """How many."""
        return sum(self.statuses.values())

    @property
    def errors(self) -> int:
        """Those that did not end well."""
        return self.requests - self.statuses.get("OK", 0)

    @property
    def error_ratio(self) -> float:
        """Their share, 0 where nothing was asked."""
        return self.errors / self.requests if self.requests else 0.0

    def percentile(self, share: float) -> float | None:
        """Seconds within which a share of those that ended well were answered.

        As Prometheus' histogram_quantile: evenly spread within a bucket.
        """
        bounds = sorted(self.buckets)
        total = self.buckets[bounds[-1]] if bounds else 0
        if not total:
            return None
        rank, below, lower = share * total, 0.0, 0.0
        for bound in bounds:
            count = self.buckets[bound]
            if count >= rank:
                if math.isinf(bound):
                    return lower
                return lower + (bound - lower) * (rank - below) / max(count - below, 1e-9)
            below, lower = count, bound
        return lower

    def as_json(self) -> dict[str, Any]:
        """Its figures, for machines."""
        return {
            "requests": self.requests,
            "errors": self.errors,
            "error_ratio": self.error_ratio,
            "statuses": dict(sorted(self.statuses.items())),
            "seconds": {name: self.percentile(share) for name, share in PERCENTILES.items()},
        }


PERCENTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


class Watch:
    """Reads the companion's page, and keeps what was added since it began.

    Args:
        address: Of the page: http://127.0.0.1:9145/metrics.
        model: The model's name.

    Raises:
        NoMetrics: It does not answer.
    """

    def __init__(self, address: str, *, model: str) -> None:
        self._address, self._model = address, model
        self._added: dict[Series, float] = defaultdict(float)
        self._last = self._read()

    def look(self) -> None:
        """Read it again.

        Raises:
            NoMetrics: It does not answer.
        """
        now = self._read()
        for series, value in now.items():
            before = self._last.get(series, 0.0)
            # A counter that fell belongs to a companion that was started anew.
            self._added[series] += value - before if value >= before else value
        self._last = now

    def tally(self, version: int) -> Tally:
        """What has been added for a version."""
        statuses: Counter[str] = Counter()
        buckets: dict[float, float] = defaultdict(float)
        for (name, labels), value in self._added.items():
            label = dict(labels)
            if label["version"] != str(version) or not value:
                continue
            if name == _REQUESTS and label["status"] not in _NOT_THE_VERSIONS:
                statuses[label["status"]] += int(value)
            elif name == _BUCKET:
                buckets[float(label["le"])] += value
        return Tally(statuses, buckets)

    def share(self, label: str) -> float | None:
        """The share that the gateway gives a label now, 0 to 1; None where it does not say.

        Raises:
            NoMetrics: It does not answer.
        """
        return self._samples().get(
            (_SHARE, tuple(sorted({"model": self._model, "label": label}.items())))
        )

    def _read(self) -> dict[Series, float]:
        return {
            (name, labels): value
            for (name, labels), value in self._samples().items()
            if name in (_REQUESTS, _BUCKET) and dict(labels).get("method") in _METHODS
        }

    def _samples(self) -> dict[Series, float]:
        """All that the page says of the model."""
        try:
            with urllib.request.urlopen(self._address, timeout=_SECONDS) as answer:  # noqa: S310
                text = answer.read().decode()
            return {
                (sample.name, tuple(sorted(sample.labels.items()))): sample.value
                for family in text_string_to_metric_families(text)
                for sample in family.samples
                if sample.labels.get("model") == self._model
            }
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            raise NoMetrics(
                f"no metrics of the gateway at {self._address}: {reason}",
                hint="`servable gateway-metrics` beside the gateway counts its requests; "
                "--metrics names another address",
            ) from error
