"""Whether every model is available, and what is reported of it."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from servable_serving.gateway.certificate import ensure_certificate, expiry
from servable_serving.gateway.readiness import ReadinessCheck, parse_status, syslog_line
from servable_serving.repository.traffic import Route

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.unit.serving.gateway.conftest import MakeSettings

    from servable_serving.gateway.settings import Settings

ONE, TWO = "10.0.0.1", "10.0.0.2"


@dataclass
class FakeView:
    addresses: tuple[str, ...] = (ONE,)
    metrics_address: str | None = None
    traffic: dict[str, list[Route]] = field(default_factory=dict)


@dataclass
class FakeServers:
    """Servers' answers by address and model; asks for others are answered by nobody."""

    states: dict[tuple[str, str], dict[int, str]] = field(default_factory=dict)

    def __call__(self, address: str, model: str) -> dict[int, str]:
        return self.states.get((address, model), {})


class FakeSink(list[tuple[str, dict[str, Any]]]):
    """The messages that were sent."""

    def __call__(self, address: str, message: Mapping[str, Any]) -> None:
        self.append((address, dict(message)))

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [message for _, message in self if message["kind"] == kind]


def config(*models: str) -> str:
    entries = "".join(
        f'config {{ name: "{model}" base_path: "/models/{model}" }}\n' for model in models
    )
    return f"model_config_list {{\n{entries}}}\n"


class Bench:
    """A check with fakes around it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.view, self.servers, self.sink = FakeView(), FakeServers(), FakeSink()
        self.check = ReadinessCheck(settings, self.view, ask=self.servers, send=self.sink)

    def serve(self, address: str, model: str, **states: str) -> None:
        self.servers.states[address, model] = {int(n[1:]): s for n, s in states.items()}

    @property
    def marked(self) -> bool:
        return (self.settings.run / "ready").exists()


@pytest.fixture
def bench(make: MakeSettings) -> Bench:
    return Bench(make())


@pytest.fixture
def models_config(tmp_path: Path) -> Path:
    return tmp_path / "models" / "models.config"


def test_every_model_available(bench: Bench, models_config: Path) -> None:
    models_config.write_text(config("a", "b"))
    bench.serve(ONE, "a", v1="AVAILABLE")
    bench.serve(ONE, "b", v1="END", v2="AVAILABLE")
    assert bench.check.step().ready
    assert bench.marked


def test_one_server_with_the_model_is_enough(bench: Bench, models_config: Path) -> None:
    models_config.write_text(config("a"))
    bench.view.addresses = (ONE, TWO)
    bench.serve(TWO, "a", v1="AVAILABLE")
    assert bench.check.step().ready


def test_a_model_that_is_loading(bench: Bench, models_config: Path) -> None:
    models_config.write_text(config("a"))
    bench.serve(ONE, "a", v1="LOADING")
    found = bench.check.step()
    assert not found.ready
    assert "no server has a AVAILABLE" in found.summary


def test_readiness_is_lost(bench: Bench, models_config: Path) -> None:
    models_config.write_text(config("a"))
    bench.serve(ONE, "a", v1="AVAILABLE")
    bench.check.step()
    bench.serve(ONE, "a", v1="UNLOADING")
    bench.check.step()
    assert not bench.marked


def test_without_addresses_nothing_is_available(bench: Bench) -> None:
    bench.view.addresses = ()
    assert not bench.check.step().ready


def test_named_models_replace_models_config(make: MakeSettings, models_config: Path) -> None:
    models_config.write_text(config("a"))
    bench = Bench(make(MODELS="b"))
    bench.serve(ONE, "b", v1="AVAILABLE")
    assert bench.check.step().ready


def test_without_models_config_it_is_the_shipped_model(bench: Bench) -> None:
    bench.serve(ONE, "fashion_mnist", v1="AVAILABLE")
    assert bench.check.step().ready


def test_a_hash_within_a_path_is_no_comment(bench: Bench, models_config: Path) -> None:
    models_config.write_text(config("a").replace('"/models/a"', '"/models/#a" # name: "z"\n'))
    bench.serve(ONE, "a", v1="AVAILABLE")
    assert bench.check.step().ready


def test_a_broken_models_config_keeps_the_last_models(bench: Bench, models_config: Path) -> None:
    models_config.write_text(config("a"))
    bench.serve(ONE, "a", v1="AVAILABLE")
    bench.check.step()
    models_config.write_text("model_config_list {")
    assert bench.check.step().ready


def test_a_broken_models_config_at_the_start_is_not_ready(
    bench: Bench, models_config: Path
) -> None:
    models_config.write_text("model_config_list {")
    assert not bench.check.step().ready


def test_a_state_is_logged_once(
    bench: Bench, models_config: Path, caplog: pytest.LogCaptureFixture
) -> None:
    models_config.write_text(config("a"))
    caplog.set_level(logging.INFO, "servable.gateway")
    for _ in range(3):
        bench.check.step()
    bench.serve(ONE, "a", v1="AVAILABLE")
    for _ in range(3):
        bench.check.step()
    assert [record.getMessage() for record in caplog.records] == [
        "no server has a AVAILABLE",
        "every model is AVAILABLE",
    ]


def test_nothing_is_sent_where_nobody_counts(bench: Bench) -> None:
    bench.check.step()
    assert bench.sink == []


def test_each_servers_versions_are_reported(bench: Bench, models_config: Path) -> None:
    models_config.write_text(config("a"))
    bench.view.addresses, bench.view.metrics_address = (ONE, TWO), "10.0.0.9"
    bench.serve(ONE, "a", v1="AVAILABLE", v2="LOADING")
    bench.check.step()
    assert {address for address, _ in bench.sink} == {"10.0.0.9"}
    assert bench.sink.of("status") == [
        {
            "kind": "status", "server": ONE, "model": "a",
            "versions": {"1": "AVAILABLE", "2": "LOADING"},
        },
        {"kind": "status", "server": TWO, "model": "a", "versions": {}},
    ]  # fmt: skip


def test_the_gateway_reports_itself(bench: Bench) -> None:
    ensure_certificate(bench.settings)
    bench.view.metrics_address = "10.0.0.9"
    bench.check.step()
    expires = expiry(bench.settings.certificate)
    assert expires is not None
    assert bench.sink.of("gateway") == [
        {
            "kind": "gateway", "ready": 0, "servers": 1,
            "certificate_expires": int(expires.timestamp()),
        }
    ]  # fmt: skip


def test_an_unreadable_certificate_has_no_expiry(bench: Bench) -> None:
    bench.view.metrics_address = "10.0.0.9"
    bench.check.step()
    assert bench.sink.of("gateway")[0]["certificate_expires"] is None


def test_the_routes_in_force_are_reported(bench: Bench) -> None:
    bench.view.metrics_address = "10.0.0.9"
    bench.view.traffic = {"a": [Route(label="stable", version=3, percent=99.5)]}
    bench.check.step()
    assert bench.sink.of("traffic") == [{"kind": "traffic", "routes": ["a stable 3 99.5"]}]


def test_tensorflow_servings_status() -> None:
    body = (
        b'{"model_version_status": [{"version": "2", "state": "AVAILABLE", "status": {}},'
        b'{"version": "1", "state": "END", "status": {}}]}'
    )
    assert parse_status(body) == {2: "AVAILABLE", 1: "END"}


@pytest.mark.parametrize(
    "body",
    [b"", b"AVAILABLE", b"[]", b'{"error": "x"}', b'{"model_version_status": 3}', b"\xff",
     b'{"model_version_status": [{"version": "x", "state": "END"}]}'],
)  # fmt: skip
def test_an_answer_that_is_no_status(body: bytes) -> None:
    assert parse_status(body) == {}


def test_a_message_is_one_line_of_syslog() -> None:
    assert syslog_line({"kind": "gateway", "ready": 1}) == (
        b'<190>servable: {"kind":"gateway","ready":1}'
    )
