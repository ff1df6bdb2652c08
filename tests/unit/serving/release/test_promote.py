"""Promote and roll back at fake servers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.unit.serving.release.fakes import FakeClient

from servable_serving.release.promote import promote, roll_back
from servable_serving.release.server_group import NoAnswer, ReleaseError
from servable_serving.release.steps import Steps
from servable_serving.repository.manifest import CandidateError

if TYPE_CHECKING:
    from tests.unit.serving.release.fakes import FakeServers

    from servable_serving.release.deployment import Deployment


@pytest.fixture(autouse=True)
def _client(servers: FakeServers) -> None:
    servers.clients = [FakeClient()]


def test_a_promoted_version_is_loaded_and_stable(deployment: Deployment) -> None:
    steps = Steps(None)
    promote(2, deployment, steps)
    assert deployment.labels() == {"stable": 2}
    assert deployment.listed() == {1, 2}
    assert [step.name for step in steps.taken] == ["check", "wait", "smoke", "label"]


def test_what_no_label_needs_is_unloaded(deployment: Deployment) -> None:
    promote(2, deployment, Steps(None))
    promote(3, deployment, Steps(None))
    assert deployment.listed() == {2, 3}


def test_nothing_is_unloaded_while_a_push_is_running(deployment: Deployment) -> None:
    promote(2, deployment, Steps(None))
    with deployment.repository.locked():
        promote(3, deployment, Steps(None))
    assert deployment.listed() == {1, 2, 3}


def test_a_missing_version_is_refused(deployment: Deployment) -> None:
    with pytest.raises(ReleaseError) as caught:
        promote(9, deployment, Steps(None))
    assert "1, 2, 3" in (caught.value.hint or "")


def test_a_damaged_version_is_refused(deployment: Deployment) -> None:
    (deployment.repository.path / "2" / "saved_model.pb").write_bytes(b"other")
    with pytest.raises(CandidateError):
        promote(2, deployment, Steps(None))
    assert deployment.labels() == {"stable": 1}
    assert deployment.listed() == {1}


def test_a_version_that_fails_to_load_is_not_promoted(
    deployment: Deployment, servers: FakeServers
) -> None:
    servers.broken.add(2)
    with pytest.raises(ReleaseError):
        promote(2, deployment, Steps(None))
    assert deployment.labels() == {"stable": 1}
    assert deployment.listed() == {1}


def test_servers_that_do_not_read_the_file_are_refused(
    deployment: Deployment, servers: FakeServers
) -> None:
    servers.watches = False
    with pytest.raises(ReleaseError):
        promote(2, deployment, Steps(None))
    assert deployment.labels() == {"stable": 1}


def test_servers_that_are_down_are_an_error(deployment: Deployment, servers: FakeServers) -> None:
    servers.down = True
    with pytest.raises(NoAnswer):
        promote(2, deployment, Steps(None))


def test_without_servers_only_a_listed_version_is_promoted(deployment: Deployment) -> None:
    deployment.load(2)
    alone = replace(deployment, servers=None)
    promote(2, alone, Steps(None))
    assert alone.labels() == {"stable": 2}
    with pytest.raises(ReleaseError):
        promote(3, alone, Steps(None))


def test_stable_may_stand_for_a_missing_version(deployment: Deployment) -> None:
    deployment.repository.delete(1)
    promote(2, deployment, Steps(None))
    assert deployment.labels() == {"stable": 2}


def test_a_rollback_goes_to_the_previous_stable(deployment: Deployment) -> None:
    promote(2, deployment, Steps(None))
    assert roll_back(deployment, Steps(None)) == 1
    assert deployment.labels() == {"stable": 1}


def test_a_second_rollback_goes_one_further(deployment: Deployment) -> None:
    promote(2, deployment, Steps(None))
    promote(3, deployment, Steps(None))
    assert [roll_back(deployment, Steps(None)) for _ in range(2)] == [2, 1]


def test_a_rollback_to_a_version(deployment: Deployment) -> None:
    steps = Steps(None)
    assert roll_back(deployment, steps, to=3) == 3
    assert deployment.labels() == {"stable": 3}
    assert [step.name for step in steps.taken] == ["wait", "label"]


def test_a_rollback_is_noted_as_one(deployment: Deployment) -> None:
    roll_back(deployment, Steps(None), to=3)
    event = deployment.repository.history()[-1]
    assert (event["what"], event["version"], event["before"]) == ("rollback", 3, 1)


def test_nothing_before_the_first_is_an_error(deployment: Deployment) -> None:
    with pytest.raises(ReleaseError):
        roll_back(deployment, Steps(None))
    assert deployment.labels() == {"stable": 1}


def test_no_stable_version_is_an_error(empty: Deployment) -> None:
    with pytest.raises(ReleaseError):
        roll_back(empty, Steps(None))
