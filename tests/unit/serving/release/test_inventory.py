"""The inventory: versions, verification, pruning."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.unit.serving.repository.candidates import edit_manifest

from servable_client import VersionStatus
from servable_serving.release.inventory import prune, verify, versions
from servable_serving.release.server_group import NoAnswer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.unit.serving.release.fakes import FakeServers

    from servable_serving.release.deployment import Deployment


def troubles(deployment: Deployment) -> dict[str, str]:
    return {
        checked.what.rpartition("/")[2]: checked.trouble
        for checked in verify(deployment)
        if checked.trouble
    }


def test_versions_are_listed_from_the_highest(deployment: Deployment) -> None:
    assert [entry.version for entry in versions(deployment)] == [3, 2, 1]


def test_a_version_has_its_labels_and_state(deployment: Deployment) -> None:
    entries = {entry.version: entry for entry in versions(deployment)}
    assert (entries[1].labels, entries[1].state) == (["stable"], "AVAILABLE")
    assert (entries[2].labels, entries[2].state) == ([], "not loaded")


def test_states_that_differ_between_servers_are_both_shown(
    deployment: Deployment, servers: FakeServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    loading = {1: VersionStatus(version=1, state="LOADING")}
    monkeypatch.setattr(servers, "states", lambda: [loading, {}])
    assert versions(deployment)[-1].state == "LOADING, not loaded"


def test_without_servers_the_state_is_that_of_the_file(deployment: Deployment) -> None:
    alone = replace(deployment, servers=None)
    states = {entry.version: entry.state for entry in versions(alone)}
    assert states == {1: "listed", 2: "not listed", 3: "not listed"}


def test_servers_that_are_down_are_an_error(deployment: Deployment, servers: FakeServers) -> None:
    servers.down = True
    with pytest.raises(NoAnswer):
        versions(deployment)


def test_a_version_has_its_size_and_origin(deployment: Deployment) -> None:
    entry = versions(deployment)[0]
    assert entry.size > len(b"graph" + b"weights")
    assert entry.pushed is not None
    assert "@" in (entry.by or "")


def test_without_a_history_the_manifest_tells_the_origin(deployment: Deployment) -> None:
    (deployment.repository.path / ".history.jsonl").unlink()
    assert "@" in (versions(deployment)[0].by or "")


@pytest.mark.parametrize(
    ("metrics", "accuracy"),
    [({"test": {"accuracy": 0.9}}, 0.9), ({}, None), (None, None), ({"test": 3}, None),
     ({"test": {"accuracy": "high"}}, None)],
)  # fmt: skip
def test_the_accuracy_is_that_of_the_manifest(
    deployment: Deployment, metrics: object, accuracy: float | None
) -> None:
    edit_manifest(deployment.repository.path / "3", metrics=metrics)
    assert versions(deployment)[0].accuracy == accuracy


def test_a_quarantined_version_has_its_reason(deployment: Deployment) -> None:
    deployment.repository.reject(3, {"reason": "it fails"})
    entry = versions(deployment)[0]
    assert (entry.version, entry.state, entry.reason) == (3, "rejected", "it fails")


@pytest.mark.parametrize("text", ["{", "[]", "{}"])
def test_an_invalid_reason_is_none(deployment: Deployment, text: str) -> None:
    folder = deployment.repository.reject(3, {"reason": "it fails"})
    (folder / "reason.json").write_text(text)
    assert versions(deployment)[0].reason is None


def test_a_repository_that_is_right_has_no_trouble(deployment: Deployment) -> None:
    assert len(verify(deployment)) == 4
    assert troubles(deployment) == {}


def damage_a_file(deployment: Deployment) -> str:
    (deployment.repository.path / "2" / "saved_model.pb").write_bytes(b"other")
    return "2"


def change_a_manifest(deployment: Deployment) -> str:
    edit_manifest(deployment.repository.path / "3", seed=7)
    return "3"


def leave_a_copy(deployment: Deployment) -> str:
    (deployment.repository.path / ".incoming-x").mkdir()
    return ".incoming-x"


def list_a_missing_version(deployment: Deployment) -> str:
    with deployment.config.change("garments", deployment.repository.path) as entry:
        entry.model_version_policy.specific.versions.append(9)
    return "models.config"


def label_a_missing_version(deployment: Deployment) -> str:
    with deployment.config.change("garments", deployment.repository.path) as entry:
        entry.version_labels["canary"] = 9
    return "models.config"


@pytest.mark.parametrize(
    "breaking",
    [damage_a_file, change_a_manifest, leave_a_copy, list_a_missing_version,
     label_a_missing_version],
)  # fmt: skip
def test_trouble_is_found_where_it_is(
    deployment: Deployment, breaking: Callable[[Deployment], str]
) -> None:
    what = breaking(deployment)
    assert list(troubles(deployment)) == [what]


def test_a_file_that_cannot_be_read_is_trouble(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(_: Path) -> dict[str, str]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("servable_serving.repository.candidate.checksums", denied)
    assert set(troubles(deployment)) == {"1", "2", "3"}


def test_a_version_without_a_history_is_right(deployment: Deployment) -> None:
    (deployment.repository.path / ".history.jsonl").unlink()
    assert troubles(deployment) == {}


def test_old_versions_are_pruned(deployment: Deployment) -> None:
    assert prune(deployment, keep=1) == [2]
    assert deployment.repository.versions() == [1, 3]


def test_the_highest_are_kept(deployment: Deployment) -> None:
    assert prune(deployment, keep=3) == []
    assert prune(deployment, keep=2) == []


def test_the_previous_stable_is_kept(deployment: Deployment) -> None:
    deployment.load(2)
    deployment.set_label("stable", 2, what="promote")
    assert prune(deployment, keep=1) == []


def test_what_a_server_still_answers_with_is_kept(
    deployment: Deployment, servers: FakeServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    unloading = {2: VersionStatus(version=2, state="UNLOADING")}
    monkeypatch.setattr(servers, "states", lambda: [unloading])
    assert prune(deployment, keep=1) == []


def test_what_a_server_has_unloaded_is_pruned(
    deployment: Deployment, servers: FakeServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = {2: VersionStatus(version=2, state="END")}
    monkeypatch.setattr(servers, "states", lambda: [ended])
    assert prune(deployment, keep=1) == [2]


@pytest.mark.parametrize("labelled", [True, False])
def test_a_version_that_is_needed_meanwhile_is_kept(
    deployment: Deployment,
    servers: FakeServers,
    monkeypatch: pytest.MonkeyPatch,
    labelled: bool,
) -> None:
    def promoted_meanwhile() -> list[dict[int, VersionStatus]]:
        with deployment.config.change("garments", deployment.repository.path) as entry:
            if labelled:
                entry.version_labels["canary"] = 2
            else:
                entry.model_version_policy.specific.versions.append(2)
        return []

    monkeypatch.setattr(servers, "states", promoted_meanwhile)
    prune(deployment, keep=1)
    assert 2 in deployment.repository.versions()


def test_a_pruned_version_is_noted(deployment: Deployment) -> None:
    prune(deployment, keep=1)
    lines = (deployment.repository.path / ".history.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["what"] == "prune"
