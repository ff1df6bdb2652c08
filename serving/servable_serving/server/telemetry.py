"""Prometheus metrics: TensorFlow Serving's under its names, and the process's own.

https://www.tensorflow.org/tfx/serving/serving_config#monitoring_configuration
"""

from __future__ import annotations

import logging
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from servable_client._wire import wire_pb2 as wire
    from servable_serving.server.samples import Samples

_PREFIX = ":tensorflow:serving:"
# Microseconds; tensorflow_serving/servables/tensorflow/util.cc.
_BUCKETS = [float(f"{10 * 1.8**power:.6g}") for power in range(33)]


class Metrics:
    """Counts requests, and how long they and their runs of the graph take."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._registry)
        self._requests = _RequestCount()
        self._registry.register(self._requests)
        request_latency = Histogram(
            f"{_PREFIX}request_latency",
            "Distribution of wall time (in microseconds) for Tensorflow Serving request.",
            ["model_name", "API", "entrypoint"],
            buckets=_BUCKETS,
            registry=self._registry,
        )
        runtime_latency = Histogram(
            f"{_PREFIX}runtime_latency",
            "Distribution of wall time (in microseconds) for Tensorflow runtime.",
            ["model_name", "API", "runtime"],
            buckets=_BUCKETS,
            registry=self._registry,
        )
        # Cached: looking a child up by its labels costs more than observing; there are few of them.
        self._request_latency = cache(request_latency.labels)
        self._runtime_latency = cache(runtime_latency.labels)

    def ran(self, model: str, api: str, seconds: float) -> None:
        """A run of a model's graph has ended."""
        self._runtime_latency(model, api, "TF1").observe(seconds * 1e6)

    def answered(self, model: str, api: str, entrypoint: str, code: str, seconds: float) -> None:
        """A request has been answered.

        Args:
            model: The model's name; one that is served, so that strangers cannot fill the memory.
            api: "Predict" and so on by gRPC, "predict" and so on by REST.
            entrypoint: "GRPC" or "REST".
            code: The status's name.
            seconds: How long it took.
        """
        self._requests.add(model, code)
        if code == "OK":
            self._request_latency(model, api, entrypoint).observe(seconds * 1e6)

    def count_samples(self, counts: Mapping[str, int]) -> None:
        """Tell how many requests were kept with their answers, and how many were not.

        Args:
            counts: By outcome, "kept" and "dropped"; read whenever the metrics are.
        """
        self._registry.register(_SampleCount(counts))

    def page(self) -> bytes:
        """All metrics in Prometheus' text format."""
        page = generate_latest(self._registry)
        # prometheus-client adds a suffix that TensorFlow Serving does not use.
        return page.replace(
            f"{_PREFIX}request_count_total ".encode(), f"{_PREFIX}request_count ".encode()
        )


class _SampleCount(Collector):
    """The counts of `Samples`."""

    def __init__(self, counts: Mapping[str, int]) -> None:
        self._counts = counts

    def collect(self) -> Iterator[Metric]:
        metric = CounterMetricFamily(
            "servable_request_samples",
            "Requests to be kept by --log_requests_to.",
            labels=["outcome"],
        )
        for outcome in ("kept", "dropped"):
            metric.add_metric([outcome], self._counts[outcome])
        yield metric


class _RequestCount:
    """A counter whose name does not end in `_total`."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()
        self._lock = Lock()

    def add(self, model: str, status: str) -> None:
        with self._lock:
            self._counts[model, status] += 1

    def collect(self) -> Iterator[Metric]:
        name = f"{_PREFIX}request_count"
        metric = Metric(name, "The total number of requests.", "counter")
        with self._lock:
            counts = sorted(self._counts.items())
        for (model, status), count in counts:
            metric.add_sample(name, {"model_name": model, "status": status}, count)
        yield metric


_log = logging.getLogger("servable.requests")


@dataclass(kw_only=True)
class RequestRecord:
    """The record of a request in progress.

    Attributes:
        entrypoint: "GRPC" or "REST".
        api: "Predict" and so on by gRPC, "predict" and so on by REST; empty for no request to one.
        model: The model's name.
        version: The version that answers.
        code: The status's name.
        log: Makes the request and its answer as they are kept, if it was answered; see `Samples`.
        began: By time.perf_counter.
    """

    entrypoint: str
    api: str = ""
    model: str = ""
    version: int | None = None
    code: str = "OK"
    log: Callable[[], wire.PredictionLog | None] | None = None
    began: float = field(default_factory=time.perf_counter)


class RequestLog:
    """Counts and logs requests that have been answered.

    Args:
        is_known: Whether there is a model of that name; other names are not counted.
        metrics: Where they are counted.
        log_rate: The fraction of them that is logged, 0 to 1.
        samples: Where a share of them is kept, with their answers; None for nowhere.
    """

    def __init__(
        self,
        is_known: Callable[[str], bool],
        metrics: Metrics,
        *,
        log_rate: float = 0.0,
        samples: Samples | None = None,
    ) -> None:
        self._is_known, self._metrics, self._log_rate = is_known, metrics, log_rate
        self._samples = samples

    def keep(self, record: RequestRecord) -> None:
        """Count and log a request that has been answered."""
        seconds = time.perf_counter() - record.began
        # Clients may request any name, and each that is counted stays in memory for good.
        model = record.model if self._is_known(record.model) else ""
        if record.api:
            self._metrics.answered(model, record.api, record.entrypoint, record.code, seconds)
        if self._samples is not None and record.log is not None and record.version is not None:
            self._samples.take(record.model, record.version, record.log)
        if self._log_rate and random.random() < self._log_rate:
            _log.info(
                "%s %s %s %s %s %.2f ms",
                record.entrypoint, record.api or "-", record.model or "-",
                "-" if record.version is None else record.version, record.code, seconds * 1000,
                extra={"event": "request", "entrypoint": record.entrypoint, "api": record.api,
                       "model": record.model, "version": record.version, "code": record.code,
                       "milliseconds": round(seconds * 1000, 3)},
            )  # fmt: skip
