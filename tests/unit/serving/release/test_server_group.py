"""What a group of servers says, and waiting for it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from tests.unit.serving.release.fakes import FakeClient

from servable_client import InvalidInput, VersionStatus
from servable_serving.release import server_group as module
from servable_serving.release.replicas import Replicas
from servable_serving.release.server_group import NoAnswer, ReleaseError, ServerGroup

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FIRST_PAUSE", 0.0)
    monkeypatch.setattr(module, "_RELOAD_SECONDS", -1.0)


def group(*clients: FakeClient) -> ServerGroup:
    servers = ServerGroup("grpc://127.0.0.1:1", model="garments")
    servers.close()
    at_address = {f"grpc://127.0.0.1:{n}": client for n, client in enumerate(clients, 1)}

    def connect(address: str, *, name: str | None = None, number: int | None = None) -> FakeClient:
        del name, number
        return at_address[address]

    servers.replicas = Replicas(",".join(at_address), connect=connect)
    return servers


def at(version: int, state: str = "AVAILABLE", code: str = "OK") -> dict[int, VersionStatus]:
    return {version: VersionStatus(version=version, state=state, error_code=code)}


def test_each_address_has_a_client() -> None:
    with ServerGroup("grpc://127.0.0.1:1,grpc://127.0.0.1:2", model="garments") as servers:
        assert len(servers.clients) == 2


def test_an_invalid_address_is_refused() -> None:
    with pytest.raises(InvalidInput):
        ServerGroup("ftp://somewhere", model="garments")


def test_all_clients_are_closed() -> None:
    clients = [FakeClient(), FakeClient()]
    with group(*clients):
        pass
    assert [client.closed for client in clients] == [True, True]


def test_a_server_without_the_model_has_no_versions() -> None:
    assert group(FakeClient(), FakeClient(states=at(1))).states() == [{}, at(1)]


def test_a_server_that_is_down_is_left_out() -> None:
    assert group(FakeClient(down=True), FakeClient(states=at(1))).states() == [at(1)]


def test_servers_that_are_all_down_are_an_error() -> None:
    with pytest.raises(NoAnswer) as caught:
        group(FakeClient(down=True), FakeClient(down=True)).check()
    assert caught.value.hint is not None


def test_available_versions_are_those_of_any_server() -> None:
    servers = group(FakeClient(states=at(1)), FakeClient(states={**at(2), **at(3, "LOADING")}))
    assert servers.available() == {1, 2}


@pytest.mark.parametrize(
    ("known", "labels", "expected"),
    [
        ({"stable": 1}, {"stable": 1}, True),
        ({"stable": 7}, {"stable": 1}, True),
        ({}, {"stable": 1}, False),
        ({"beta": 1}, {"stable": 1, "beta": 1}, True),
        ({"stable": 1}, {}, None),
    ],
)
def test_servers_that_know_a_label_read_models_config(
    known: dict[str, int], labels: dict[str, int], expected: bool | None
) -> None:
    assert group(FakeClient(labels=known)).watches_config(labels) is expected


def test_labels_of_no_server_are_an_error() -> None:
    with pytest.raises(NoAnswer):
        group(FakeClient(down=True)).watches_config({"stable": 1})


def test_a_reload_reaches_every_server_that_answers() -> None:
    clients = [FakeClient(), FakeClient(down=True), FakeClient()]
    group(*clients).request_reload("text")
    assert [client.configs for client in clients] == [["text"], [], ["text"]]


def test_a_version_at_all_servers_is_waited_for() -> None:
    group(FakeClient(states=at(1)), FakeClient(states=at(1))).wait_for(1, timeout=0, before=[])


@pytest.mark.parametrize("states", [{}, at(2), at(1, "LOADING"), at(1, "START")])
def test_a_version_that_one_server_lacks_is_an_error(states: dict[int, VersionStatus]) -> None:
    servers = group(FakeClient(states=at(1)), FakeClient(states=states))
    with pytest.raises(ReleaseError):
        servers.wait_for(1, timeout=0, before=[])


@pytest.mark.parametrize("state", ["LOADING", "END"])
def test_a_version_that_failed_to_load_is_an_error_at_once(state: str) -> None:
    servers = group(FakeClient(states=at(1, state, "INTERNAL")))
    with pytest.raises(ReleaseError):
        servers.wait_for(1, timeout=1e6, before=[])


def test_an_old_failure_is_not_one_of_this_release() -> None:
    client = FakeClient(states=at(1, "END", "INTERNAL"))
    before = [dict(client.states)]
    servers = group(client)
    status = client.status
    asked: list[int] = []

    def recovers() -> list[VersionStatus]:
        asked.append(1)
        if len(asked) > 2:
            client.states = at(1)
        return status()

    client.status = recovers  # type: ignore[method-assign]
    servers.wait_for(1, timeout=1e6, before=before)
    assert len(asked) == 3


def test_a_server_that_restarts_is_waited_for() -> None:
    client = FakeClient(states=at(1), down=True)
    status = client.status
    asked: list[int] = []

    def restarts() -> list[VersionStatus]:
        asked.append(1)
        client.down = len(asked) < 3
        return status()

    client.status = restarts  # type: ignore[method-assign]
    group(client).wait_for(1, timeout=1e6, before=[])
    assert len(asked) > 2


def ignore() -> None:
    pass


@pytest.mark.parametrize("labels", [{}, {"stable": 1}])
def test_a_label_elsewhere_is_an_error(labels: dict[str, int]) -> None:
    servers = group(FakeClient(labels={"stable": 2}), FakeClient(labels=labels))
    with pytest.raises(ReleaseError):
        servers.wait_for_label("stable", 2, timeout=0, reload=ignore)


def test_a_label_that_is_there_needs_no_reload() -> None:
    reloads: list[int] = []
    servers = group(FakeClient(labels={"stable": 2}))
    servers.wait_for_label("stable", 2, timeout=0, reload=lambda: reloads.append(1))
    assert reloads == []


def test_a_label_that_is_not_there_is_asked_for_again() -> None:
    client = FakeClient(labels={"stable": 1})

    def reload() -> None:
        client.labels["stable"] = 2

    group(client).wait_for_label("stable", 2, timeout=1e6, reload=reload)


def pauses(monkeypatch: pytest.MonkeyPatch, timeout: float) -> list[float]:
    """The pauses of a wait that never ends well, by a clock that they move."""
    now, slept = [0.0], []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(module, "_FIRST_PAUSE", 1.0)
    monkeypatch.setattr(module, "_LONGEST_PAUSE", 2.0)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", sleep)
    lacking: Callable[[], str] = lambda: "it is not there"  # noqa: E731
    assert module._wait(lacking, timeout) == "it is not there"
    return slept


def test_pauses_grow_and_end_at_the_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pauses(monkeypatch, 6.0) == [1.0, 1.5, 2.0, 1.5]
