"""What is counted and logged of requests."""

from __future__ import annotations

import logging

import pytest

from servable_serving.server.telemetry import Metrics, RequestLog, RequestRecord


def line(metrics: Metrics, start: str) -> str:
    """What follows `start` on its line of the page."""
    found = [one for one in metrics.page().decode().splitlines() if one.startswith(start)]
    return found[0].removeprefix(start).strip() if found else ""


REQUEST_COUNT = ':tensorflow:serving:request_count{model_name="m",status="OK"}'


def test_requests_are_counted_by_model_and_status() -> None:
    metrics = Metrics()
    metrics.answered("m", "Predict", "GRPC", "OK", 0.001)
    metrics.answered("m", "predict", "REST", "OK", 0.001)
    assert line(metrics, REQUEST_COUNT) == "2.0"


def test_the_latency_is_in_microseconds() -> None:
    metrics = Metrics()
    metrics.answered("m", "Predict", "GRPC", "OK", 0.25)
    labels = '{API="Predict",entrypoint="GRPC",model_name="m"}'
    assert line(metrics, f":tensorflow:serving:request_latency_sum{labels}") == "250000.0"


def test_failed_requests_have_no_latency() -> None:
    metrics = Metrics()
    metrics.answered("m", "Predict", "GRPC", "NOT_FOUND", 0.25)
    assert line(metrics, ":tensorflow:serving:request_latency_sum") == ""


def test_runs_are_timed_by_model_and_api() -> None:
    metrics = Metrics()
    metrics.ran("m", "Predict", 0.5)
    labels = '{API="Predict",model_name="m",runtime="TF1"}'
    assert line(metrics, f":tensorflow:serving:runtime_latency_sum{labels}") == "500000.0"


def test_the_count_has_upstreams_type() -> None:
    metrics = Metrics()
    assert line(metrics, "# TYPE :tensorflow:serving:request_count") == "counter"


def log(metrics: Metrics, rate: float = 0.0) -> RequestLog:
    return RequestLog(lambda name: name == "m", metrics, log_rate=rate)


def test_requests_for_unknown_models_share_one_name() -> None:
    metrics = Metrics()
    log(metrics).keep(RequestRecord(entrypoint="GRPC", api="Predict", model="stranger"))
    assert line(metrics, ':tensorflow:serving:request_count{model_name="",status="OK"}') == "1.0"
    assert b"stranger" not in metrics.page()


def test_what_is_no_inference_is_not_counted() -> None:
    metrics = Metrics()
    log(metrics).keep(RequestRecord(entrypoint="GRPC", model="m"))
    assert line(metrics, REQUEST_COUNT) == ""


@pytest.mark.parametrize(("rate", "lines"), [(0.0, 0), (0.25, 0), (0.75, 1), (1.0, 1)])
def test_the_share_of_requests_that_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, rate: float, lines: int
) -> None:
    monkeypatch.setattr("servable_serving.server.telemetry.random.random", lambda: 0.5)
    with caplog.at_level(logging.INFO, "servable.requests"):
        log(Metrics(), rate).keep(RequestRecord(entrypoint="GRPC", api="Predict", model="m"))
    assert len(caplog.records) == lines


def test_a_logged_request_has_its_facts_in_fields(caplog: pytest.LogCaptureFixture) -> None:
    record = RequestRecord(
        entrypoint="REST", api="predict", model="stranger", version=3, code="NOT_FOUND"
    )
    with caplog.at_level(logging.INFO, "servable.requests"):
        log(Metrics(), 1.0).keep(record)
    fields = caplog.records[0].__dict__
    assert fields["event"] == "request"
    assert fields["model"] == "stranger"
    assert (fields["version"], fields["code"]) == (3, "NOT_FOUND")
    assert fields["milliseconds"] >= 0
