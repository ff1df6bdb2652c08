"""`servable gateway-metrics`: what it counts of the real gateway."""

from __future__ import annotations

import socket
import ssl
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import requests
from cryptography import x509
from prometheus_client.parser import text_string_to_metric_families
from tests.conftest import free_port, only_sentence
from tests.forked import servable
from tests.functional.gateway.gateway import KEY, ROWS, Gateway, companion, gateway
from tests.functional.serving.calls import eventually

from servable_client import Retry

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    from tests.conftest import RunningServer

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(text: str) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def asked(page: str) -> Samples:
    return samples(requests.get(page, timeout=60).text)


def total(found: Samples, name: str, **labels: str) -> float:
    """The sum over what carries these labels."""
    wanted = set(labels.items())
    return sum(v for (n, given), v in found.items() if n == name and wanted <= set(given))


@pytest.fixture(scope="module")
def watched(
    backend: RunningServer,
    keys: dict[str, Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Gateway, str]]:
    folder = tmp_path_factory.mktemp("watched")
    (folder / "models").mkdir()
    (folder / "models" / "models.traffic").write_text("linear canary 2 25\nlinear stable 1 75\n")
    with (
        companion() as (page, syslog),
        gateway(
            folder,
            grpc_port=backend.port,
            rest_port=backend.rest_port,
            SERVABLE_METRICS_SYSLOG=syslog,
            **keys,
        ) as running,
    ):
        yield running, page


def test_it_counts_what_the_gateway_did(
    watched: tuple[Gateway, str], backend: RunningServer
) -> None:
    gateway, page = watched

    def now() -> Samples:
        return asked(page)

    before = now()
    key = {"x-api-key": KEY}
    for _ in range(7):
        assert gateway.ask("linear/versions/2:predict", headers=key).ok
    for _ in range(3):
        assert gateway.ask("linear/labels/stable:predict", headers=key).ok
    gateway.ask("linear/versions/1:predict", headers=key, json={"instances": "?"})
    gateway.ask("linear:predict")
    gateway.ask("shoes:predict", headers=key)
    gateway.get("/v1/models/linear", headers=key)
    with gateway.client("grpcs", api_key=KEY, retry=Retry(attempts=1)) as client:
        client.predict({"x": np.array(ROWS, np.float32)}, version=1)
    name = "servable_gateway_requests_total"
    expected = [
        (7, {"model": "linear", "version": "2", "status": "OK", "transport": "rest"}),
        (3, {"version": "1", "label": "stable", "status": "OK", "method": "predict"}),
        (1, {"version": "1", "status": "INVALID_ARGUMENT"}),
        (1, {"status": "UNAUTHENTICATED"}),
        # A model that nobody has gets no name of its own.
        (1, {"model": "other", "status": "NOT_FOUND"}),
        (1, {"model": "linear", "method": "status", "status": "OK"}),
        (1, {"transport": "grpc", "method": "predict", "status": "OK"}),
    ]

    def counted(count: int, labels: dict[str, str]) -> bool:
        return total(now(), name, **labels) - total(before, name, **labels) == count

    for count, labels in expected:
        eventually(partial(counted, count, labels))
    found = now()
    seconds = "servable_gateway_request_seconds"
    assert (
        total(found, f"{seconds}_count", version="2")
        - total(before, f"{seconds}_count", version="2")
        == 7
    )
    assert 0 < total(found, f"{seconds}_sum", version="2") < 600
    served = "servable_gateway_server_requests_total"
    assert {dict(labels)["server"] for name, labels in found if name == served} == {
        f"127.0.0.1:{port}" for port in (backend.port, backend.rest_port)
    }
    assert total(found, "servable_gateway_received_bytes_total") > 0


def test_it_knows_the_servers_the_labels_and_the_certificate(
    watched: tuple[Gateway, str],
) -> None:
    gateway, page = watched
    share = ("servable_model_label_share", {"model": "linear", "label": "canary"})

    def shown(name: str, labels: dict[str, str], value: float) -> bool:
        return total(asked(page), name, **labels) == value

    # What the gateway tells first, between, and last.
    for name, labels, value in (
        ("servable_model_available_versions", {"model": "linear"}, 4),
        ("servable_gateway_ready", {}, 1),
        (*share, 0.25),
    ):
        eventually(partial(shown, name, labels, value))
    found = asked(page)
    state = "servable_model_version_state"
    assert total(found, state, model="linear", version="3", state="AVAILABLE") == 1
    assert total(found, "servable_model_label_version", model="linear", label="canary") == 2
    assert total(found, share[0], **share[1]) == 0.25
    assert total(found, "servable_gateway_ready") == 1
    assert total(found, "servable_gateway_servers") == 1
    pem = ssl.get_server_certificate(("127.0.0.1", gateway.ports["tls"]), timeout=60)
    ends = x509.load_pem_x509_certificate(pem.encode()).not_valid_after_utc.timestamp()
    assert total(found, "servable_gateway_certificate_expires_timestamp_seconds") == ends
    assert total(found, "servable_gateway_invalid_messages_total") == 0


def test_a_port_that_is_taken() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        done: subprocess.CompletedProcess[str] = servable(
            "gateway-metrics", "--syslog-port", port, "--port", free_port()
        )
    assert "cannot listen at 127.0.0.1" in only_sentence(done)
