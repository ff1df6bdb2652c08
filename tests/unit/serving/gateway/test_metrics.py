"""What `servable gateway-metrics` makes of the gateway's messages."""

from __future__ import annotations

import random
import string

import orjson
import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from servable_serving.gateway.metrics import GatewayMetrics

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def total(found: Samples, name: str, **labels: str) -> float:
    """The sum over what carries these labels."""
    wanted = set(labels.items())
    return sum(v for (n, given), v in found.items() if n == name and wanted <= set(given))


LINE = {
    "kind": "request", "transport": "rest", "method": "predict", "model": "m", "label": "stable",
    "version": "1", "status": "200", "grpc_status": "", "seconds": "0.004",
    "upstream_seconds": "0.003", "upstream": "10.0.0.1:8501", "bytes_in": "100",
    "bytes_out": "200", "connections": "3", "busy": "1",
}  # fmt: skip


def read(metrics: GatewayMetrics, **changed: str) -> None:
    metrics.read(b"<190>Nov 24 22:00:00 servable: " + orjson.dumps({**LINE, **changed}))


def page_of(metrics: GatewayMetrics) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(generate_latest(metrics.registry).decode())
        for sample in family.samples
    }


def test_unknown_names_cannot_exhaust_the_memory() -> None:
    metrics = GatewayMetrics()
    read(metrics)
    for number in range(3000):
        name = "".join(random.choices(string.ascii_letters, k=9))
        # Names that nobody serves, and more that somebody does than a page can hold.
        read(metrics, model=name, status="404", method=name, upstream=f"10.1.2.3:{number}")
        read(metrics, model=f"model-{number}", version=str(number), label=f"label-{number}")
        read(metrics, transport="page", method="", model="", version="", label="")
    found = page_of(metrics)
    series = [labels for name, labels in found if name == "servable_gateway_requests_total"]
    assert len(series) < 200
    models = {dict(labels)["model"] for labels in series}
    assert {"m", "model-0", "other", ""} <= models
    assert len(models) <= 52
    assert sum(value for (name, _), value in found.items() if name.endswith("requests_total")) > 0
    assert total(found, "servable_gateway_requests_total") == 9001


@pytest.mark.parametrize(
    "message",
    [
        b"", b"hello", b"<190>Nov 24 servable: {", b"{}", b'{"kind": "request"}', b"\xff\xfe{\xff}",
        b'{"kind": ["request"]}', b'{"kind": "status", "model": "m", "server": "s", "versions": 3}',
        b'{"kind": "traffic", "routes": ["too short"]}', b'{"kind": "gateway", "ready": "x"}',
        orjson.dumps({**LINE, "status": "fine"}), orjson.dumps({**LINE, "seconds": "soon"}),
        orjson.dumps({**LINE, "transport": "grpc", "grpc_status": "99"}),
    ],
)  # fmt: skip
def test_an_invalid_message_is_counted_and_ignored(message: bytes) -> None:
    metrics = GatewayMetrics()
    metrics.read(message)
    read(metrics)
    found = page_of(metrics)
    assert total(found, "servable_gateway_invalid_messages_total") == 1
    assert total(found, "servable_gateway_requests_total", status="OK") == 1


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"status": "499"}, "CANCELLED"),
        ({"status": "504"}, "DEADLINE_EXCEEDED"),
        ({"status": "304"}, "OK"),
        ({"transport": "grpc", "grpc_status": "14"}, "UNAVAILABLE"),
        ({"transport": "grpc", "grpc_status": "0"}, "OK"),
        ({"transport": "grpc", "grpc_status": ""}, "CANCELLED"),
        ({"upstream": "10.0.0.1:8501, 10.0.0.2:8501", "status": "502"}, "UNAVAILABLE"),
    ],
)
def test_both_protocols_have_the_same_codes(changed: dict[str, str], status: str) -> None:
    metrics = GatewayMetrics()
    read(metrics, **changed)
    assert total(page_of(metrics), "servable_gateway_requests_total", status=status) == 1


def tell(metrics: GatewayMetrics, **message: object) -> None:
    metrics.read(b"<190>servable: " + orjson.dumps(message))


def test_a_request_is_counted_with_its_time_and_size() -> None:
    metrics = GatewayMetrics()
    read(metrics)
    found = page_of(metrics)
    series = {"model": "m", "version": "1", "label": "stable", "method": "predict"}
    assert total(found, "servable_gateway_requests_total", **series, status="OK") == 1
    assert total(found, "servable_gateway_request_seconds_sum", **series) == 0.004
    assert total(found, "servable_gateway_received_bytes_total") == 100
    assert total(found, "servable_gateway_sent_bytes_total") == 200
    assert total(found, "servable_gateway_server_requests_total", server="10.0.0.1:8501") == 1


def test_a_failed_request_has_no_time() -> None:
    metrics = GatewayMetrics()
    read(metrics, status="500")
    assert total(page_of(metrics), "servable_gateway_request_seconds_count") == 0


def test_the_last_server_that_was_tried_counts() -> None:
    metrics = GatewayMetrics()
    read(metrics, upstream="10.0.0.1:8501, 10.0.0.2:8501")
    found = page_of(metrics)
    assert total(found, "servable_gateway_server_requests_total", server="10.0.0.2:8501") == 1
    assert total(found, "servable_gateway_server_requests_total") == 1


@pytest.mark.parametrize("upstream", ["", "servable_rest"])
def test_a_request_that_reached_no_server_counts_for_none(upstream: str) -> None:
    metrics = GatewayMetrics()
    read(metrics, upstream=upstream, status="502")
    assert total(page_of(metrics), "servable_gateway_server_requests_total") == 0


def test_grpc_methods_have_rests_names() -> None:
    metrics = GatewayMetrics()
    read(metrics, transport="grpc", method="GetModelMetadata", grpc_status="0")
    assert total(page_of(metrics), "servable_gateway_requests_total", method="metadata") == 1


def test_the_states_of_versions() -> None:
    metrics = GatewayMetrics()
    states = {"1": "END", "2": "AVAILABLE", "3": "NONSENSE"}
    tell(metrics, kind="status", model="m", server="10.0.0.1", versions=states)
    found = page_of(metrics)
    assert total(found, "servable_model_version_state", version="1", state="END") == 1
    assert total(found, "servable_model_version_state", version="3") == 0
    assert total(found, "servable_model_available_versions", model="m") == 1


def test_a_server_that_does_not_answer_has_nothing_available() -> None:
    metrics = GatewayMetrics()
    tell(metrics, kind="status", model="m", server="10.0.0.1", versions={})
    found = page_of(metrics)
    key = ("servable_model_available_versions", {"model": "m", "server": "10.0.0.1"})
    assert found[key[0], frozenset(key[1].items())] == 0


def test_routes() -> None:
    metrics = GatewayMetrics()
    tell(metrics, kind="traffic", routes=["m stable 3 99.5", "m canary 4 0.5"])
    found = page_of(metrics)
    assert total(found, "servable_model_label_version", label="canary") == 4
    assert total(found, "servable_model_label_share", label="stable") == 0.995


def test_the_gateway_itself() -> None:
    metrics = GatewayMetrics()
    tell(metrics, kind="gateway", ready=1, servers=3, certificate_expires=1_800_000_000)
    read(metrics)
    found = page_of(metrics)
    assert total(found, "servable_gateway_ready") == 1
    assert total(found, "servable_gateway_servers") == 3
    assert total(found, "servable_gateway_connections") == 3
    assert total(found, "servable_gateway_certificate_expires_timestamp_seconds") == 1_800_000_000


def test_a_certificate_that_cannot_be_read_has_no_expiry() -> None:
    metrics = GatewayMetrics()
    tell(metrics, kind="gateway", ready=0, servers=0, certificate_expires=None)
    names = {name for name, _ in page_of(metrics)}
    assert "servable_gateway_ready" in names
    assert "servable_gateway_certificate_expires_timestamp_seconds" not in names


def test_nothing_heard_is_nothing_said_of_the_gateway() -> None:
    assert "servable_gateway_ready" not in {name for name, _ in page_of(GatewayMetrics())}
