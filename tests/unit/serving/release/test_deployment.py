"""Loading, unloading and labelling versions."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from servable_serving.release import deployment as module
from servable_serving.release.server_group import NoAnswer, ReleaseError
from servable_serving.repository import history
from servable_serving.repository.models_config import ModelsConfigError
from servable_serving.repository.traffic import read_traffic, write_traffic

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.unit.serving.release.fakes import FakeServers

    from servable_serving.release.deployment import Deployment


def test_loading_lists_a_version(deployment: Deployment) -> None:
    deployment.load(2)
    assert deployment.listed() == {1, 2}


def test_loading_requests_a_reload(deployment: Deployment, servers: FakeServers) -> None:
    before = servers.reloads
    deployment.load(2)
    assert servers.reloads == before + 1


def test_servers_that_do_not_read_the_file_get_no_request(
    deployment: Deployment, servers: FakeServers
) -> None:
    servers.watches = False
    before = servers.reloads
    deployment.load(2)
    assert servers.reloads == before


def test_a_version_that_fails_to_load_is_listed_no_more(
    deployment: Deployment, servers: FakeServers
) -> None:
    servers.broken.add(2)
    with pytest.raises(ReleaseError):
        deployment.load(2)
    assert deployment.listed() == {1}


def test_a_version_that_was_listed_before_stays_listed(
    deployment: Deployment, servers: FakeServers
) -> None:
    deployment.load(2)
    servers.broken.add(2)
    with pytest.raises(ReleaseError):
        deployment.load(2)
    assert deployment.listed() == {1, 2}


def test_nothing_is_listed_if_no_server_answers(
    deployment: Deployment, servers: FakeServers
) -> None:
    servers.down = True
    with pytest.raises(NoAnswer):
        deployment.load(2)
    assert deployment.listed() == {1}


def test_an_interruption_while_loading_undoes_it(
    deployment: Deployment, servers: FakeServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(servers, "wait_for", interrupted)
    with pytest.raises(KeyboardInterrupt):
        deployment.load(2)
    assert deployment.listed() == {1}


def test_loading_without_servers_waits_for_nothing(deployment: Deployment) -> None:
    alone = replace(deployment, servers=None)
    alone.load(3)
    assert alone.listed() == {1, 3}


def test_unloading_removes_a_version_and_its_labels(deployment: Deployment) -> None:
    deployment.load(2)
    deployment.set_label("canary", 2, what="push")
    deployment.unload(2)
    assert deployment.listed() == {1}
    assert deployment.labels() == {"stable": 1}


def test_unloading_a_labelled_version_resets_its_traffic(
    deployment: Deployment, root: Path
) -> None:
    deployment.load(2)
    deployment.set_label("canary", 2, what="push")
    write_traffic(root, {"garments": {"canary": 20}})
    deployment.unload(2)
    shares = {route.label: route.percent for route in read_traffic(root)["garments"]}
    assert shares["stable"] == 100


def test_a_label_moves_and_is_noted(deployment: Deployment) -> None:
    deployment.load(2)
    deployment.set_label("stable", 2, what="promote")
    event = deployment.repository.history()[-1]
    assert deployment.labels() == {"stable": 2}
    assert (event["what"], event["version"], event["before"]) == ("promote", 2, 1)


def test_a_label_that_stays_is_not_noted(deployment: Deployment) -> None:
    before = len(deployment.repository.history())
    deployment.set_label("stable", 1, what="promote")
    assert len(deployment.repository.history()) == before


def test_moving_canary_takes_its_share_away(deployment: Deployment, root: Path) -> None:
    deployment.load(2)
    deployment.set_label("canary", 2, what="push")
    write_traffic(root, {"garments": {"canary": 20}})
    deployment.load(3)
    deployment.set_label("canary", 3, what="push")
    shares = {route.label: route.percent for route in read_traffic(root)["garments"]}
    assert shares == {"canary": 0.0, "stable": 100.0}


def test_an_invalid_traffic_file_does_not_fail_a_label(deployment: Deployment, root: Path) -> None:
    deployment.load(2)
    (root / "models.traffic").unlink()
    (root / "models.traffic").mkdir()
    deployment.set_label("stable", 2, what="promote")
    assert deployment.labels() == {"stable": 2}


def test_a_label_that_servers_do_not_apply_goes_back(
    deployment: Deployment, servers: FakeServers
) -> None:
    deployment.load(2)
    servers.stuck.add("stable")
    with pytest.raises(ReleaseError):
        deployment.set_label("stable", 2, what="promote")
    assert deployment.labels() == {"stable": 1}


def test_a_new_label_that_servers_do_not_apply_is_removed(
    deployment: Deployment, servers: FakeServers
) -> None:
    deployment.load(2)
    servers.stuck.add("canary")
    with pytest.raises(ReleaseError):
        deployment.set_label("canary", 2, what="push")
    assert deployment.labels() == {"stable": 1}


def test_a_label_that_somebody_else_moved_meanwhile_stays(
    deployment: Deployment, servers: FakeServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def moved(*_: object, **__: object) -> None:
        with deployment.config.change("garments", deployment.repository.path) as entry:
            entry.version_labels["stable"] = 3
        raise ReleaseError("too slow")

    deployment.load(2)
    monkeypatch.setattr(servers, "wait_for_label", moved)
    with pytest.raises(ReleaseError):
        deployment.set_label("stable", 2, what="promote")
    assert deployment.labels() == {"stable": 3}


def test_an_interruption_while_labelling_undoes_it(
    deployment: Deployment, servers: FakeServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    deployment.load(2)
    monkeypatch.setattr(servers, "wait_for_label", interrupted)
    with pytest.raises(KeyboardInterrupt):
        deployment.set_label("stable", 2, what="promote")
    assert deployment.labels() == {"stable": 1}


def test_servers_that_do_not_read_the_file_are_not_waited_for(
    deployment: Deployment, servers: FakeServers
) -> None:
    servers.watches = False
    servers.stuck.add("stable")
    said = deployment.set_label("stable", 2, what="promote")
    assert deployment.labels() == {"stable": 2}
    assert str(deployment.config.path) in said


def test_a_first_label_that_no_server_knows_stays(
    empty: Deployment, servers: FakeServers, candidate: Path
) -> None:
    empty.repository.push(candidate)
    servers.stuck.add("stable")
    empty.set_label("stable", 1, what="push")
    assert empty.labels() == {"stable": 1}


def test_the_current_version_becomes_stable(empty: Deployment, candidate: Path) -> None:
    empty.repository.push(candidate)
    empty.adopt_current_as_stable(1)
    assert empty.labels() == {"stable": 1}
    assert empty.repository.history()[-1]["what"] == "adopt"


def test_an_existing_stable_stays(deployment: Deployment) -> None:
    before = deployment.repository.history()
    deployment.adopt_current_as_stable(3)
    assert deployment.labels() == {"stable": 1}
    assert deployment.repository.history() == before


def test_what_has_no_label_is_unloaded(deployment: Deployment) -> None:
    deployment.load(2)
    deployment.load(3)
    deployment.unload_unlabelled()
    assert deployment.listed() == {1}


def test_without_servers_the_newest_stays_listed(deployment: Deployment) -> None:
    alone = replace(deployment, servers=None)
    for version, expected in ((2, {1, 2}), (3, {1, 3})):
        alone.load(version)
        alone.unload_unlabelled()
        assert alone.listed() == expected


def test_the_previous_stable_stays_loaded(deployment: Deployment) -> None:
    deployment.load(2)
    deployment.set_label("stable", 2, what="promote")
    deployment.unload_unlabelled()
    assert deployment.listed() == {1, 2}


def test_the_stable_before_that_is_unloaded(deployment: Deployment) -> None:
    for version in (2, 3):
        deployment.load(version)
        deployment.set_label("stable", version, what="promote")
    deployment.unload_unlabelled()
    assert deployment.listed() == {2, 3}


def test_clients_get_time_to_follow_a_label(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(module, "_FOLLOW_SECONDS", 1000.0)
    monkeypatch.setattr(time, "sleep", slept.append)
    for version in (2, 3):
        deployment.load(version)
        deployment.set_label("stable", version, what="promote")
    deployment.unload_unlabelled()
    assert len(slept) == 1
    assert 0 < slept[0] <= 1000


def test_a_label_lost_long_ago_is_not_waited_for(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    lost = {**history.event("push", label="canary", version=3, before=2),
            "when": datetime(2020, 1, 1, tzinfo=UTC).isoformat()}  # fmt: skip
    deployment.load(2)
    deployment.repository.note(lost)
    deployment.unload_unlabelled()
    assert sum(slept) == 0


def test_a_version_that_got_a_label_meanwhile_stays(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def label(_: float) -> None:
        with deployment.config.change("garments", deployment.repository.path) as entry:
            entry.version_labels["canary"] = 2

    deployment.load(2)
    deployment.repository.note(history.event("push", label="x", version=3, before=2))
    monkeypatch.setattr(time, "sleep", label)
    deployment.unload_unlabelled()
    assert deployment.listed() == {1, 2}


def test_the_served_version_is_stable(deployment: Deployment) -> None:
    assert deployment.served() == 1


def test_without_stable_the_highest_is_served(empty: Deployment, candidate: Path) -> None:
    assert empty.served() is None
    empty.repository.push(candidate)
    empty.repository.push(candidate)
    assert empty.served() == 2


def remove_stable(deployment: Deployment) -> None:
    deployment.repository.delete(1)


def break_config(deployment: Deployment) -> None:
    deployment.config.path.write_text("model_config_list {")


@pytest.mark.parametrize("breaking", [remove_stable, break_config])
def test_a_config_that_servers_would_refuse_is_noticed(
    deployment: Deployment, breaking: Callable[[Deployment], None]
) -> None:
    breaking(deployment)
    with pytest.raises(ModelsConfigError):
        deployment.check()


def test_a_label_that_is_about_to_move_is_not_checked(deployment: Deployment) -> None:
    deployment.repository.delete(1)
    deployment.check(moving="stable")
