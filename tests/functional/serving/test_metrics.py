"""What Prometheus and a log's reader learn of the requests."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families
from tests.conftest import NAME
from tests.functional.serving.calls import PREDICTION, call, eventually, linear, post

if TYPE_CHECKING:
    from tests.conftest import RunningServer

PREFIX = ":tensorflow:serving:"
ROW = {"instances": [[1, 2, 3]]}


def samples(server: RunningServer) -> Counter[tuple[str, ...]]:
    """The metrics page: values by name and labels in the order of their names."""
    page = requests.get(f"{server.http}/monitoring/prometheus/metrics", timeout=120)
    assert page.status_code == 200
    assert page.headers["Content-Type"] == "text/plain"
    assert f"{PREFIX}request_count_total" not in page.text
    return Counter(
        {
            (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(page.text)
            for sample in family.samples
        }
    )


def ask_some(rich: RunningServer, channel: grpc.Channel) -> None:
    """Three good ones by gRPC and two by REST; one bad one by each; and models there are not."""
    for _ in range(3):
        call(channel, f"{PREDICTION}Predict", linear([[1, 2, 3]]))
    for request in (linear([[1, 2, 3]], signature_name="both.."), linear([[1]], model="nosuch")):
        with pytest.raises(grpc.RpcError):
            call(channel, f"{PREDICTION}Predict", request)
    for _ in range(2):
        assert post(rich, ROW, "linear:predict").status_code == 200
    assert post(rich, {"instances": ["a"]}, "linear:predict").status_code == 400
    assert post(rich, ROW, "nosuch:predict").status_code == 404


def test_requests_are_counted(rich: RunningServer, channel: grpc.Channel) -> None:
    before = samples(rich)
    ask_some(rich, channel)
    seen = samples(rich)
    seen.subtract(before)
    # The page says request_count, as TensorFlow Serving's does; the parser knows better.
    count = f"{PREFIX}request_count_total"
    assert seen[count, "linear", "OK"] == 5
    assert (
        seen[count, "linear", "INVALID_ARGUMENT"] + seen[count, "linear", "FAILED_PRECONDITION"]
        == 2
    )
    # Any name may be asked for, and none of them is kept.
    assert "nosuch" not in str([key for key in seen if key[0].startswith(PREFIX)])
    for api, entrypoint, times in (("Predict", "GRPC", 3), ("predict", "REST", 2)):
        # The labels' names in order: API, entrypoint, model_name.
        latency = f"{PREFIX}request_latency"
        assert seen[f"{latency}_count", api, entrypoint, "linear"] == times
        # In microseconds: a request takes more than 20 of them, and less than a minute.
        assert 20 * times < seen[f"{latency}_sum", api, entrypoint, "linear"] < 60e6
        assert seen[f"{latency}_bucket", api, entrypoint, "+Inf", "linear"] == times
    runs = [
        (key, value)
        for key, value in seen.items()
        if key[0] == f"{PREFIX}runtime_latency_count" and value
    ]
    assert sum(value for _, value in runs) == 5
    assert {key[2:] for key, _ in runs} == {("linear", "TF1")}
    # Of the process.
    assert before["process_resident_memory_bytes",] > 100e6
    assert before["process_start_time_seconds",] > 1.7e9


def lines(server: RunningServer) -> list[dict[str, Any]]:
    """The log of a server with --log_json; whatever is in it is JSON."""
    return [json.loads(line) for line in server.log.read_text().splitlines()]


def test_each_request_and_each_event_is_a_line_of_json(
    rich: RunningServer, channel: grpc.Channel
) -> None:
    before = len(lines(rich))
    ask_some(rich, channel)
    eventually(lambda: len(lines(rich)) >= before + 9)
    asked = [line for line in lines(rich)[before:] if line.get("event") == "request"]
    assert len(asked) == 9
    assert all(line["level"] == "INFO" and line["timestamp"] for line in asked)
    assert all(0 < line["milliseconds"] < 60e3 for line in asked)
    assert Counter(
        (line["entrypoint"], line["model"], line["version"], line["code"]) for line in asked
    ) >= Counter(
        {
            ("GRPC", "linear", 4, "OK"): 3,
            ("GRPC", "nosuch", None, "NOT_FOUND"): 1,
            ("REST", "linear", 4, "OK"): 2,
            ("REST", "linear", 4, "INVALID_ARGUMENT"): 1,
            ("REST", "nosuch", None, "NOT_FOUND"): 1,
        }
    )
    loads = [line for line in lines(rich) if line.get("event") == "load"]
    assert {("linear", 4), ("types", 1), ("slow", 1)} <= {
        (line["model"], line["version"]) for line in loads
    }
    assert all(line["seconds"] > 0 and line["message"] for line in loads)
    started = next(line for line in lines(rich) if line.get("event") == "serving")
    assert (started["port"], started["rest_port"]) == (rich.port, rich.rest_port)


def test_requests_are_not_logged_unasked(server: RunningServer) -> None:
    assert requests.get(f"{server.http}/v1/models/{NAME}", timeout=120).status_code == 200
    assert post(server, {"instances": []}).status_code == 400
    # Nor is there a page of metrics.
    assert (
        requests.get(f"{server.http}/monitoring/prometheus/metrics", timeout=120).status_code == 404
    )
    log = server.log.read_text()
    assert "is available" in log
    assert "INVALID_ARGUMENT" not in log
