"""The requests of a model's versions, as the gateway counted them since a trial began."""

from __future__ import annotations

import math
import urllib.request
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from prometheus_client.parser import text_string_to_metric_families

from servable_client import ServableError
from servable_serving.gateway.metrics import PREFIX

if TYPE_CHECKING:
    from collections.abc import Mapping

_REQUESTS, _BUCKET = f"{PREFIX}requests_total", f"{PREFIX}request_seconds_bucket"
_SHARE = "servable_model_label_share"
_SECONDS = 10.0
_METHODS = frozenset({"predict", "classify"})
# Refused by the gateway itself, or cancelled by the caller: not the version's errors.
_NOT_THE_VERSIONS = frozenset(
    {"UNAUTHENTICATED", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "CANCELLED"}
)

Series = tuple[str, tuple[tuple[str, str], ...]]


class NoMetrics(ServableError):
    """The metrics of the gateway cannot be read."""


class Fetch(Protocol):
    """Reads a URL."""

    def __call__(self, address: str) -> str:
        """Its content.

        Raises:
            OSError: It cannot be read.
            ValueError: It is not a valid URL, or not text.
        """
        ...


def fetch_over_http(address: str) -> str:
    """See `Fetch`."""
    with urllib.request.urlopen(address, timeout=_SECONDS) as answer:  # noqa: S310
        return str(answer.read().decode())


@dataclass(frozen=True)
class Tally:
    """The requests of one version.

    Attributes:
        statuses: Number of requests by status.
        buckets: Number of successful requests that took at most a time, by that time in seconds;
            cumulative, as a Prometheus histogram.
    """

    statuses: Mapping[str, int] = field(default_factory=dict)
    buckets: Mapping[float, float] = field(default_factory=dict)

    @property
    def requests(self) -> int:
        """Number of requests."""
        return sum(self.statuses.values())

    @property
    def errors(self) -> int:
        """Number of failed requests."""
        return self.requests - self.statuses.get("OK", 0)

    @property
    def error_ratio(self) -> float:
        """Share of failed requests; 0 without any requests."""
        return self.errors / self.requests if self.requests else 0.0

    def percentile(self, share: float) -> float | None:
        """A percentile of the latency of successful requests, in seconds; None without any.

        As Prometheus' histogram_quantile: linear within a bucket.
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
        """As JSON values."""
        return {
            "requests": self.requests,
            "errors": self.errors,
            "error_ratio": self.error_ratio,
            "statuses": dict(sorted(self.statuses.items())),
            "seconds": {name: self.percentile(share) for name, share in PERCENTILES.items()},
        }


PERCENTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


class TrafficMeter:
    """Reads the metrics of the gateway, and adds up what was counted since it was created.

    Args:
        address: URL of the metrics: http://127.0.0.1:9145/metrics.
        model: The model's name.
        fetch: Reads the metrics as text.

    Raises:
        NoMetrics: They cannot be read.
    """

    def __init__(self, address: str, *, model: str, fetch: Fetch = fetch_over_http) -> None:
        self._address, self._model, self._fetch = address, model, fetch
        self._added: dict[Series, float] = defaultdict(float)
        self._last = self._read()

    def look(self) -> None:
        """Read the metrics again.

        Raises:
            NoMetrics: They cannot be read.
        """
        now = self._read()
        for series, value in now.items():
            before = self._last.get(series, 0.0)
            # A counter that decreased was reset: `gateway-metrics` was restarted.
            self._added[series] += value - before if value >= before else value
        self._last = now

    def tally(self, version: int) -> Tally:
        """The requests of a version since this object was created."""
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
        """The share that the gateway gives a label now, 0 to 1; None if it is not reported.

        Raises:
            NoMetrics: The metrics cannot be read.
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
        """All samples of the model."""
        try:
            return {
                (sample.name, tuple(sorted(sample.labels.items()))): sample.value
                for family in text_string_to_metric_families(self._fetch(self._address))
                for sample in family.samples
                if sample.labels.get("model") == self._model
            }
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            raise NoMetrics(
                f"cannot read the gateway's metrics at {self._address}: {reason}",
                hint="`servable gateway-metrics`, beside the gateway, serves them; --metrics sets "
                "the URL",
            ) from error
