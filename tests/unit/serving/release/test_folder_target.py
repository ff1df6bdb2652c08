"""A push into a folder at fake servers: what is served whatever fails."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from tests.unit.serving.release.fakes import FakeClient, golden
from tests.unit.serving.repository.candidates import edit_manifest

from servable_serving.core.errors import FolderError
from servable_serving.release import push as push_module
from servable_serving.release.folder_target import FolderTarget
from servable_serving.release.push import Plan, push
from servable_serving.release.server_group import NoAnswer, ReleaseError
from servable_serving.release.steps import Steps
from servable_serving.repository.candidate import Candidate
from servable_serving.repository.manifest import CandidateError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.serving.release.fakes import FakeServers

    from servable_serving.release.deployment import Deployment


@pytest.fixture(autouse=True)
def _no_gates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push_module, "inspect", lambda candidate, **_: candidate.verify() and [])


@pytest.fixture(autouse=True)
def _client(servers: FakeServers) -> None:
    servers.clients = [FakeClient()]


def release(candidate: Path, deployment: Deployment, **plan: Any) -> int | None:
    steps = Steps(None)
    return push(candidate, FolderTarget(deployment), steps, replace(Plan(), **plan))


def test_the_first_version_becomes_stable(empty: Deployment, candidate: Path) -> None:
    assert release(candidate, empty) == 1
    assert empty.labels() == {"stable": 1}
    assert empty.listed() == {1}


def test_the_next_version_becomes_canary(deployment: Deployment, candidate: Path) -> None:
    assert release(candidate, deployment) == 4
    assert deployment.labels() == {"canary": 4, "stable": 1}


def test_a_promoted_version_becomes_stable(deployment: Deployment, candidate: Path) -> None:
    release(candidate, deployment, promote=True)
    assert deployment.labels() == {"stable": 4}
    assert deployment.listed() == {1, 4}


def test_the_previous_canary_is_unloaded(deployment: Deployment, candidate: Path) -> None:
    release(candidate, deployment)
    release(candidate, deployment)
    assert deployment.listed() == {1, 5}


def test_what_is_served_without_a_label_becomes_stable(
    empty: Deployment, candidate: Path, servers: FakeServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty.repository.push(candidate)
    monkeypatch.setattr(servers, "available", lambda: {1})
    assert release(candidate, empty) == 2
    assert empty.labels() == {"canary": 2, "stable": 1}


def test_the_history_has_the_candidate(deployment: Deployment, candidate: Path) -> None:
    release(candidate, deployment)
    event = next(e for e in deployment.repository.history() if e.get("version") == 4)
    assert (event["name"], event["candidate"]) == ("garments", str(candidate))


def test_a_version_that_fails_to_load_is_quarantined(
    deployment: Deployment, candidate: Path, servers: FakeServers
) -> None:
    servers.broken.add(4)
    with pytest.raises(ReleaseError):
        release(candidate, deployment, promote=True)
    assert deployment.labels() == {"stable": 1}
    assert deployment.listed() == {1}
    reason = json.loads((deployment.repository.rejected()[4] / "reason.json").read_text())
    assert (reason["step"], reason["version"]) == ("wait", 4)


def test_a_version_that_fails_its_smoke_test_is_quarantined(
    deployment: Deployment, candidate: Path
) -> None:
    edit_manifest(candidate, golden=[golden(0.9, 0.1)])
    with pytest.raises(ReleaseError):
        release(candidate, deployment, promote=True)
    assert deployment.labels() == {"stable": 1}
    assert deployment.listed() == {1}
    assert list(deployment.repository.rejected()) == [4]


def test_an_interrupted_push_is_quarantined(
    deployment: Deployment, candidate: Path, servers: FakeServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(servers, "wait_for", interrupted)
    with pytest.raises(KeyboardInterrupt):
        release(candidate, deployment)
    reason = json.loads((deployment.repository.rejected()[4] / "reason.json").read_text())
    assert reason["code"] is None
    assert deployment.listed() == {1}


def test_a_version_that_gets_no_label_is_unloaded_and_stays(
    deployment: Deployment, candidate: Path, servers: FakeServers
) -> None:
    servers.stuck.add("canary")
    with pytest.raises(ReleaseError) as caught:
        release(candidate, deployment)
    assert "promote 4" in (caught.value.hint or "")
    assert deployment.labels() == {"stable": 1}
    assert deployment.listed() == {1}
    assert deployment.repository.versions() == [1, 2, 3, 4]


def test_a_candidate_that_changes_after_the_gates_is_not_published(
    deployment: Deployment, candidate: Path
) -> None:
    files = Candidate(candidate)
    files.verify()
    (candidate / "saved_model.pb").write_bytes(b"other")
    with pytest.raises(CandidateError):
        push(files, FolderTarget(deployment), Steps(None), Plan())
    assert deployment.repository.versions() == [1, 2, 3]
    assert deployment.listed() == {1}


def test_a_number_that_exists_is_refused(deployment: Deployment, candidate: Path) -> None:
    with pytest.raises(FolderError):
        release(candidate, deployment, version=2)
    assert deployment.listed() == {1}


def test_no_server_is_an_error_before_the_gates(
    deployment: Deployment, candidate: Path, servers: FakeServers
) -> None:
    servers.down = True
    with pytest.raises(NoAnswer):
        release(candidate, deployment)
    assert deployment.repository.versions() == [1, 2, 3]


def test_a_dry_run_needs_no_server(
    deployment: Deployment, candidate: Path, servers: FakeServers
) -> None:
    servers.down = True
    assert release(candidate, deployment, dry_run=True) is None


def test_without_servers_a_label_in_use_stays(deployment: Deployment, candidate: Path) -> None:
    alone = replace(deployment, servers=None)
    assert release(candidate, alone) == 4
    assert alone.labels() == {"canary": 4, "stable": 1}
    assert release(candidate, alone) == 5
    assert alone.labels() == {"canary": 4, "stable": 1}


def test_without_servers_stable_does_not_move(deployment: Deployment, candidate: Path) -> None:
    alone = replace(deployment, servers=None)
    with pytest.raises(ReleaseError):
        release(candidate, alone, promote=True)
    assert alone.repository.versions() == [1, 2, 3]


def test_the_version_to_compare_with_is_the_served_one(
    deployment: Deployment, empty: Deployment
) -> None:
    with FolderTarget(deployment).served(Steps(None)) as folder:
        assert folder == empty.repository.path / "1"


def test_nothing_is_compared_with_an_empty_repository(empty: Deployment) -> None:
    with FolderTarget(empty).served(Steps(None)) as folder:
        assert folder is None


def test_a_target_says_where_it_is(deployment: Deployment) -> None:
    target = FolderTarget(deployment)
    assert target.location == str(deployment.repository.path)
    assert target.describe(3) == f"version 3 of garments in {target.location}"


def test_a_target_promotes_and_rolls_back(deployment: Deployment) -> None:
    target = FolderTarget(deployment)
    target.promote(2, Steps(None))
    assert target.labels() == {"stable": 2}
    assert target.roll_back(Steps(None), to=None) == 1
    assert target.labels() == {"stable": 1}
