"""A repository behind a URL, in fsspec's memory."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING

import pytest
from tests.unit.serving.repository.candidates import make_candidate

from servable_serving.repository import remote as module
from servable_serving.repository.candidate import Candidate, check_candidate
from servable_serving.repository.manifest import MANIFEST, CandidateError
from servable_serving.repository.models_config import ModelsConfigError
from servable_serving.repository.remote import Remote
from servable_serving.repository.shadow import Shadow, write_shadow
from servable_serving.repository.store import StoreError
from servable_serving.repository.traffic import read_traffic, write_traffic

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def remote() -> Remote:
    return Remote(f"memory://{uuid.uuid4().hex}")


@pytest.fixture
def candidate(tmp_path: Path) -> Path:
    return make_candidate(tmp_path / "candidate")


def manifest_path(version: int) -> str:
    return f"garments/{version}/{MANIFEST.as_posix()}"


def test_an_empty_repository(remote: Remote) -> None:
    assert remote.config() is None
    assert remote.numbers("garments") == []
    assert remote.labels("garments") == {}
    assert remote.manifest("garments", 1) is None


def test_numbers_count_up(remote: Remote, candidate: Path) -> None:
    assert [remote.push(candidate) for _ in range(2)] == [1, 2]
    assert remote.numbers("garments") == [1, 2]


def test_a_version_comes_back_as_it_was_pushed(
    remote: Remote, candidate: Path, tmp_path: Path
) -> None:
    remote.fetch("garments", remote.push(candidate), tmp_path / "fetched")
    assert check_candidate(tmp_path / "fetched") == check_candidate(candidate)


def test_a_claim_keeps_what_was_said_of_a_push(remote: Remote, candidate: Path) -> None:
    remote.push(candidate, about={"skipped": {"trial": "why"}})
    claim = json.loads(remote.store.read("garments/.claims/1") or b"")
    assert claim["skipped"] == {"trial": "why"}


def test_the_number_of_a_deleted_version_is_not_reused(remote: Remote, candidate: Path) -> None:
    remote.push(candidate)
    for name in ("saved_model.pb", "variables/variables.index", MANIFEST.as_posix()):
        remote.store.remove(f"garments/1/{name}")
    assert remote.push(candidate) == 2


def test_a_changed_candidate_is_not_uploaded(remote: Remote, candidate: Path) -> None:
    files = Candidate(candidate)
    files.verify()
    (candidate / "saved_model.pb").write_bytes(b"other")
    with pytest.raises(CandidateError):
        remote.publish(files)
    assert remote.numbers("garments") == []


def test_the_uploaded_manifest_is_the_one_that_was_read(remote: Remote, candidate: Path) -> None:
    files = Candidate(candidate)
    before = files.manifest_bytes
    (candidate / MANIFEST).write_text("{}")
    remote.publish(files)
    assert remote.store.read(manifest_path(1)) == before


def test_a_number_that_another_push_took_is_an_error(
    remote: Remote, candidate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = remote.store.put

    def taken(source: Path, path: str) -> None:
        put(source, path)
        remote.store.write("garments/.claims/1", b"another")

    monkeypatch.setattr(remote.store, "put", taken)
    with pytest.raises(StoreError):
        remote.push(candidate)
    assert remote.manifest("garments", 1) is None


def test_a_label_names_its_version(remote: Remote, candidate: Path) -> None:
    remote.push(candidate)
    assert remote.label("garments", 1, "stable") == {"stable": 1}
    assert "versions: 1" in (remote.config() or "")
    assert remote.labels("garments") == {"stable": 1}


def test_the_previous_stable_stays_listed(remote: Remote, candidate: Path) -> None:
    for version in (1, 2, 3):
        remote.push(candidate)
        remote.label("garments", version, "stable")
    config = remote.config() or ""
    assert [f"versions: {n}" in config for n in (1, 2, 3)] == [False, True, True]


def test_a_promoted_canary_is_canary_no_more(remote: Remote, candidate: Path) -> None:
    for _ in range(2):
        remote.push(candidate)
    remote.label("garments", 1, "stable")
    assert remote.label("garments", 2, "canary") == {"canary": 2, "stable": 1}
    assert remote.label("garments", 2, "stable") == {"stable": 2}


def test_a_promoted_canary_stays_where_gateways_may_ask_for_it(
    remote: Remote, candidate: Path
) -> None:
    first, second = remote.push(candidate), remote.push(candidate)
    remote.label("garments", first, "stable")
    remote.label("garments", second, "canary")
    found = remote.label("garments", second, "stable", keep_canary=True)
    assert found == {"canary": second, "stable": second}


def test_an_unchanged_config_is_not_written_again(
    remote: Remote, candidate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote.push(candidate)
    remote.label("garments", 1, "stable")
    written: list[str] = []
    monkeypatch.setattr(remote.store, "write", lambda path, _: written.append(path))
    remote.label("garments", 1, "stable")
    assert written == []


def test_an_incomplete_version_gets_no_label(remote: Remote, candidate: Path) -> None:
    remote.push(candidate)
    remote.store.remove(manifest_path(1))
    with pytest.raises(StoreError):
        remote.label("garments", 1, "stable")
    with pytest.raises(StoreError):
        remote.fetch("garments", 1, candidate)


def test_a_missing_version_gets_no_label(remote: Remote) -> None:
    with pytest.raises(StoreError) as caught:
        remote.label("garments", 9, "stable")
    assert caught.value.hint is not None


@pytest.mark.parametrize("content", [b"{", b"{}", b"[]", b'{"sha256": 3, "name": "garments"}'])
def test_an_invalid_manifest_is_refused(remote: Remote, content: bytes) -> None:
    remote.store.write(manifest_path(1), content)
    with pytest.raises(CandidateError):
        remote.manifest("garments", 1)


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "", "a\\..\\x"])
def test_a_file_outside_of_the_version_is_refused(remote: Remote, name: str) -> None:
    content = json.dumps({"name": "garments", "sha256": {name: "0"}}).encode()
    remote.store.write(manifest_path(1), content)
    with pytest.raises(CandidateError):
        remote.manifest("garments", 1)


def test_a_version_of_another_model_is_refused(remote: Remote) -> None:
    remote.store.write(manifest_path(1), b'{"name": "other", "sha256": {}}')
    with pytest.raises(CandidateError):
        remote.manifest("garments", 1)


def test_a_version_is_loaded_and_unloaded_without_a_label(remote: Remote, candidate: Path) -> None:
    first, second = remote.push(candidate), remote.push(candidate)
    remote.label("garments", first, "stable")
    assert remote.load("garments", second, folder="garments")
    assert not remote.load("garments", second, folder="garments")
    assert remote.deployed("garments") == ({"stable": first}, {first, second})
    remote.label("garments", second, "canary")
    remote.unlabel("garments", "canary")
    assert remote.deployed("garments") == ({"stable": first}, {first, second})
    remote.label("garments", second, "canary")
    remote.unload("garments", second)
    assert remote.deployed("garments") == ({"stable": first}, {first})
    with pytest.raises(StoreError, match="no version 9"):
        remote.load("garments", 9, folder="garments")


def test_a_version_in_the_shadow_is_in_use(remote: Remote, candidate: Path) -> None:
    first, second = remote.push(candidate), remote.push(candidate)
    remote.label("garments", first, "stable")
    remote.load("garments.shadow", second, folder="garments")
    assert "/models/garments" in (remote.config() or "")
    assert "/models/garments.shadow" not in (remote.config() or "")
    assert not remote.delete("garments", second)
    remote.withdraw("garments.shadow")
    remote.withdraw("garments.shadow")
    assert remote.deployed("garments.shadow") == ({}, set())


def test_a_label_that_moves_takes_no_share_along(remote: Remote, candidate: Path) -> None:
    for _ in range(3):
        version = remote.push(candidate)
    remote.label("garments", 1, "stable")
    remote.label("garments", 2, "canary")
    remote.reset_shares("garments")
    assert remote.store.read("models.traffic") is None
    with remote.gateway_files() as root:
        write_traffic(root, {"garments": {"canary": 20.0}})
    remote.label("garments", version, "canary")
    remote.reset_shares("garments")
    with remote.gateway_files() as root:
        routes = {(one.label, one.version, one.percent) for one in read_traffic(root)["garments"]}
    assert routes == {("canary", 3, 0.0), ("stable", 1, 100.0)}


def test_a_file_that_a_gateway_reads_is_emptied_and_not_removed(
    remote: Remote, candidate: Path
) -> None:
    remote.label("garments", remote.push(candidate), "stable")
    shadow = Shadow(version=2, name="garments.shadow", against=1, percent=50, until=9)
    with remote.gateway_files() as root:
        write_shadow(root, "garments", shadow)
    assert b"garments 2 garments.shadow 1 50 9" in (remote.store.read("models.shadow") or b"")
    with remote.gateway_files() as root:
        write_shadow(root, "garments", None)
    assert remote.store.read("models.shadow") == b""


def test_a_config_that_is_not_text_is_refused(remote: Remote) -> None:
    remote.store.write("models.config", b"\xff\xfe")
    with pytest.raises(StoreError):
        remote.config()


def test_a_config_that_is_not_valid_is_refused(remote: Remote) -> None:
    remote.store.write("models.config", b"model_config_list {")
    with pytest.raises(ModelsConfigError):
        remote.labels("garments")


def test_the_lock_of_a_killed_process_is_removed(
    remote: Remote, candidate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_TURN_SECONDS", 0.0)
    monkeypatch.setattr(module, "_LOOK_SECONDS", 0.0)
    remote.push(candidate)
    remote.store.write(".models.config.lock", b"{}")
    assert remote.label("garments", 1, "stable") == {"stable": 1}
    assert remote.store.read(".models.config.lock") is None
