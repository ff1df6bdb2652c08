"""The figures that Prometheus gets of syncs."""

from __future__ import annotations

import pytest

from servable_client import ServableError
from servable_serving.repository.sync import Changes
from servable_serving.repository.sync_metrics import SyncMetrics


@pytest.fixture
def metrics() -> SyncMetrics:
    return SyncMetrics(0, "127.0.0.1")


def value(metrics: SyncMetrics, name: str, **labels: str) -> float | None:
    return metrics._registry.get_sample_value(name, labels)


def test_outcomes_are_0_before_the_first_sync(metrics: SyncMetrics) -> None:
    for outcome in ("done", "failed"):
        assert value(metrics, "servable_sync_looks_total", outcome=outcome) == 0


def test_syncs_are_counted_by_outcome(metrics: SyncMetrics) -> None:
    for found in (Changes(), Changes(), ServableError("away")):
        metrics.tell(found)
    assert value(metrics, "servable_sync_looks_total", outcome="done") == 2
    assert value(metrics, "servable_sync_looks_total", outcome="failed") == 1


def test_versions_are_counted_by_change(metrics: SyncMetrics) -> None:
    metrics.tell(Changes(pulled=[("m", 1), ("m", 2)], deleted=[("m", 3)]))
    assert value(metrics, "servable_sync_versions_total", change="pulled") == 2
    assert value(metrics, "servable_sync_versions_total", change="deleted") == 1


def test_a_failure_does_not_count_as_success(metrics: SyncMetrics) -> None:
    metrics.tell(ServableError("away"))
    assert value(metrics, "servable_sync_last_success_timestamp_seconds") == 0


def test_a_success_is_dated(metrics: SyncMetrics) -> None:
    metrics.tell(Changes())
    assert value(metrics, "servable_sync_last_success_timestamp_seconds") != 0
