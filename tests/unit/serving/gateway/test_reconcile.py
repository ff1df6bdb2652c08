"""nginx follows what changes: addresses, files, traffic, time."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from servable_serving.gateway.keys import KeyStore
from servable_serving.gateway.nginx import ConfigurationRejected
from servable_serving.gateway.reconcile import Reconciler, mark
from servable_serving.repository.shadow import Shadow, write_shadow

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tests.unit.serving.gateway.conftest import MakeSettings

    from servable_serving.gateway.settings import Settings

ALICE, BOB = "alices-key-0123456789", "bobs-key-0123456789-"


class FakeProxy:
    """Keeps what it is given, and rejects it where it is told to."""

    def __init__(self) -> None:
        self.installed: list[str] = []
        self.reloads = 0
        self.rejects = False

    def install(self, configuration: str) -> None:
        if self.rejects:
            raise ConfigurationRejected("no")
        self.installed.append(configuration)

    def reload(self) -> None:
        self.reloads += 1


class FakeNames:
    """A name server."""

    def __init__(self) -> None:
        self.addresses: dict[str, tuple[str, ...]] = {"serving": ("10.0.0.1",)}
        self.asked: list[str] = []

    def __call__(self, names: Iterable[str], _seconds: float, /) -> tuple[str, ...]:
        names = list(names)
        self.asked += names
        return tuple(address for name in names for address in self.addresses.get(name, ()))


class Bench:
    """A reconciler with fakes around it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.now = 1000.0
        self.proxy, self.names = FakeProxy(), FakeNames()
        keys = KeyStore(settings.api_keys_file, settings.admin_keys_file)
        keys.reload()
        self.reconciler = Reconciler(
            settings, keys, self.proxy, resolve=self.names, clock=lambda: self.now
        )

    def write_traffic(self, text: str) -> None:
        """Write models.traffic by a rename, as the release commands do."""
        new = self.settings.models_root / "new"
        new.write_text(text)
        new.rename(new.with_name("models.traffic"))

    @property
    def configuration(self) -> str:
        return self.proxy.installed[-1]


@pytest.fixture
def bench(make: MakeSettings, tmp_path: Path) -> Bench:
    (tmp_path / "api").write_text(f"alice:{ALICE}\n")
    return Bench(make(API_KEYS_FILE=str(tmp_path / "api"), METRICS_SYSLOG="metrics:5145"))


@pytest.fixture
def started(bench: Bench) -> Bench:
    bench.write_traffic("m stable 1 90\nm canary 2 10\n")
    bench.reconciler.start()
    return bench


def test_the_start_installs_a_configuration_and_reloads_nothing(started: Bench) -> None:
    assert "server 10.0.0.1:8501 " in started.configuration
    assert len(started.proxy.installed) == 1
    assert started.proxy.reloads == 0


def test_the_start_fails_with_a_configuration_that_is_rejected(bench: Bench) -> None:
    bench.proxy.rejects = True
    with pytest.raises(ConfigurationRejected):
        bench.reconciler.start()


def test_where_nothing_changes_nothing_is_done(started: Bench) -> None:
    assert [started.reconciler.step() for _ in range(25)] == [False] * 25
    assert len(started.proxy.installed) == 1


def test_another_address_is_taken_up(started: Bench) -> None:
    started.names.addresses["serving"] = ("10.0.0.1", "10.0.0.2")
    assert started.reconciler.step()
    assert "server 10.0.0.2:8501 " in started.configuration
    assert started.proxy.reloads == 1


def test_a_failed_lookup_removes_no_server(started: Bench) -> None:
    started.names.addresses["serving"] = ()
    assert not started.reconciler.step()
    assert started.reconciler.addresses == ("10.0.0.1",)


def test_a_name_without_addresses_yet(bench: Bench) -> None:
    bench.names.addresses.clear()
    bench.reconciler.start()
    assert "server 127.0.0.1:9 down;" in bench.configuration
    bench.names.addresses["serving"] = ("10.0.0.3",)
    assert bench.reconciler.step()


def test_the_metrics_name_is_looked_up_now_and_then(started: Bench) -> None:
    for _ in range(19):
        started.reconciler.step()
    assert started.names.asked.count("serving") == 20
    assert started.names.asked.count("metrics") == 2


def test_gateway_metrics_that_comes_later_is_found(started: Bench) -> None:
    started.names.addresses["metrics"] = ("10.0.0.9",)
    assert any(started.reconciler.step() for _ in range(10))
    assert started.reconciler.metrics_address == "10.0.0.9"
    assert "syslog:server=10.0.0.9:5145" in started.configuration


def test_a_new_certificate_reloads(started: Bench) -> None:
    started.settings.certs.mkdir()
    started.settings.certificate.write_text("another")
    assert started.reconciler.step()


def test_new_keys_are_taken_up(started: Bench, tmp_path: Path) -> None:
    (tmp_path / "api").write_text(f"bob:{BOB}\n")
    assert started.reconciler.step()
    assert BOB in started.configuration
    assert ALICE not in started.configuration


def test_a_mistake_in_the_keys_is_logged_and_keeps_them(
    started: Bench, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "api").write_text("bob\n")
    started.reconciler.step()
    assert ALICE in started.configuration
    (logged,) = (record for record in caplog.records if record.levelno > logging.INFO)
    assert "not a valid name:key" in logged.getMessage()


def test_new_traffic_is_taken_up(started: Bench) -> None:
    started.write_traffic("m stable 1 100\n")
    assert started.reconciler.step()
    assert [route.label for route in started.reconciler.traffic["m"]] == ["stable"]


@pytest.mark.parametrize(
    "text", ["m stable\n", "m stable one 100\n", "m a 1 80\nm b 2 30\n", 'm s"t 1 100\n']
)
def test_invalid_traffic_changes_nothing(started: Bench, text: str) -> None:
    before = started.configuration
    started.write_traffic(text)
    started.reconciler.step()
    assert started.configuration == before
    assert [route.percent for route in started.reconciler.traffic["m"]] == [90.0, 10.0]


def test_invalid_traffic_at_the_start_splits_nothing(bench: Bench) -> None:
    bench.write_traffic("m stable\n")
    bench.reconciler.start()
    assert "split_clients" not in bench.configuration


def test_traffic_that_is_removed_splits_nothing(started: Bench) -> None:
    (started.settings.models_root / "models.traffic").unlink()
    assert started.reconciler.step()
    assert started.reconciler.traffic == {}
    assert "split_clients" not in started.configuration


def test_a_rejected_configuration_is_not_in_force(started: Bench) -> None:
    started.proxy.rejects = True
    started.write_traffic("m stable 1 100\n")
    assert not started.reconciler.step()
    assert started.proxy.reloads == 0
    assert [route.percent for route in started.reconciler.traffic["m"]] == [90.0, 10.0]


def test_after_a_rejection_the_next_change_is_taken_up(started: Bench) -> None:
    started.proxy.rejects = True
    started.write_traffic("m stable 1 100\n")
    started.reconciler.step()
    started.proxy.rejects = False
    started.names.addresses["serving"] = ("10.0.0.5",)
    assert started.reconciler.step()
    assert [route.percent for route in started.reconciler.traffic["m"]] == [100.0]


def test_a_canary_ends_at_its_deadline(bench: Bench) -> None:
    bench.write_traffic("# m until 1060\nm stable 1 60\nm canary 2 40\n")
    bench.reconciler.start()
    assert '60.00% "stable";' in bench.configuration
    bench.now = 1060.0
    assert not bench.reconciler.step()
    bench.now = 1060.5
    assert bench.reconciler.step()
    assert '60.00% "stable";' not in bench.configuration
    assert '* "stable";' in bench.configuration


def test_a_deadline_without_traffic_is_harmless(bench: Bench) -> None:
    bench.write_traffic("# m until 1\n")
    bench.reconciler.start()
    assert "split_clients" not in bench.configuration


def test_a_file_in_anothers_place_has_another_mark(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("a")
    before = mark(path)
    (tmp_path / "new").write_text("b")
    (tmp_path / "new").replace(path)
    assert mark(path) != before


def test_a_file_that_is_not_there_has_no_mark(tmp_path: Path) -> None:
    assert mark(tmp_path / "file") is None


def test_requests_are_mirrored_until_the_end(bench: Bench) -> None:
    bench.names.addresses["metrics"] = ("10.0.0.9",)
    bench.reconciler.start()
    assert "servable_mirror" not in bench.configuration
    shadow = Shadow(version=3, name="m.shadow", against=1, percent=25, until=1100)
    write_shadow(bench.settings.models_root, "m", shadow)
    assert bench.reconciler.step()
    assert '25.00% "m 3 m.shadow 1 1100";' in bench.configuration
    assert "server 10.0.0.9:9146 max_fails=0;" in bench.configuration
    bench.now = 1101.0
    assert bench.reconciler.step()
    assert "servable_mirror" not in bench.configuration
    assert not bench.reconciler.step()


def test_an_invalid_file_mirrors_nothing(started: Bench, caplog: pytest.LogCaptureFixture) -> None:
    (started.settings.models_root / "models.shadow").write_text("m 3\n")
    for _ in range(3):
        assert not started.reconciler.step()
    assert caplog.text.count("nothing is mirrored") == 1
