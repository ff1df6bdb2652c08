"""The repository: numbers, quarantine, pruning, interrupted copies."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from tests.unit.serving.repository.candidates import make_candidate

from servable_serving.core.errors import FolderError
from servable_serving.repository import local
from servable_serving.repository.candidate import Candidate, check_candidate
from servable_serving.repository.local import Repository
from servable_serving.repository.manifest import MANIFEST, CandidateError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "models" / "garments")


@pytest.fixture
def candidate(tmp_path: Path) -> Path:
    return make_candidate(tmp_path / "candidate")


def visible(repository: Repository) -> list[str]:
    return sorted(p.name for p in repository.path.iterdir() if not p.name.startswith("."))


def test_a_repository_without_a_folder_is_empty(repository: Repository) -> None:
    assert repository.versions() == []
    assert repository.rejected() == {}
    assert repository.history() == []
    assert repository.leftovers() == []


def test_numbers_begin_at_one_and_count_up(repository: Repository, candidate: Path) -> None:
    assert [repository.push(candidate) for _ in range(3)] == [1, 2, 3]
    assert repository.versions() == [1, 2, 3]


def test_a_published_version_is_valid(repository: Repository, candidate: Path) -> None:
    repository.push(candidate)
    assert check_candidate(repository.path / "1")["name"] == "garments"


def test_the_manifest_of_a_version_has_its_history(repository: Repository, candidate: Path) -> None:
    with repository.locked():
        repository.publish(Candidate(candidate), about={"skipped": {"trial": "why"}})
    (event,) = json.loads((repository.path / "1" / MANIFEST).read_text())["history"]
    assert (event["what"], event["version"]) == ("publish", 1)
    assert event["skipped"] == {"trial": "why"}


def test_the_history_has_the_digest_of_the_manifest(
    repository: Repository, candidate: Path
) -> None:
    repository.push(candidate)
    (event,) = repository.history()
    assert event["manifest_sha256"] == Candidate(repository.path / "1").manifest_sha256


def test_a_number_can_be_chosen(repository: Repository, candidate: Path) -> None:
    with repository.locked():
        assert repository.publish(Candidate(candidate), version=7) == 7
    assert repository.push(candidate) == 8


@pytest.mark.parametrize("number", [0, -1, 1])
def test_an_invalid_or_existing_number_is_refused(
    repository: Repository, candidate: Path, number: int
) -> None:
    repository.push(candidate)
    with repository.locked(), pytest.raises(FolderError):
        repository.publish(Candidate(candidate), version=number)
    assert repository.versions() == [1]


def test_the_number_of_a_deleted_version_is_not_reused(
    repository: Repository, candidate: Path
) -> None:
    repository.push(candidate)
    repository.push(candidate)
    repository.delete(2)
    assert repository.push(candidate) == 3


def test_a_number_is_remembered_without_a_history(repository: Repository, candidate: Path) -> None:
    for _ in range(3):
        repository.push(candidate)
    repository.delete(3)
    (repository.path / ".history.jsonl").unlink()
    assert repository.push(candidate) == 4


def test_the_number_of_a_quarantined_version_is_not_reused(
    repository: Repository, candidate: Path
) -> None:
    repository.push(candidate)
    repository.reject(1, {"reason": "it fails"})
    assert repository.push(candidate) == 2


def test_a_mirror_may_receive_a_number_again(repository: Repository, candidate: Path) -> None:
    repository.push(candidate)
    repository.delete(1)
    with repository.locked():
        assert repository.receive(Candidate(candidate).copy_to, version=1) == 1


def test_a_mirror_does_not_replace_a_version(repository: Repository, candidate: Path) -> None:
    repository.push(candidate)
    with repository.locked(), pytest.raises(FolderError):
        repository.receive(Candidate(candidate).copy_to, version=1)


def test_a_mirror_verifies_what_it_receives(repository: Repository, candidate: Path) -> None:
    def damaged(folder: Path) -> None:
        Candidate(candidate).copy_to(folder)
        (folder / "saved_model.pb").write_bytes(b"other")

    with repository.locked(), pytest.raises(CandidateError):
        repository.receive(damaged, version=1)
    assert visible(repository) == []
    assert repository.leftovers() == []


def test_a_quarantined_version_has_its_reason(repository: Repository, candidate: Path) -> None:
    repository.push(candidate)
    target = repository.reject(1, {"reason": "it fails", "step": "wait"})
    assert repository.versions() == []
    assert repository.rejected() == {1: target}
    assert json.loads((target / "reason.json").read_text())["reason"] == "it fails"
    assert repository.history()[-1]["what"] == "reject"


def test_a_missing_version_cannot_be_quarantined(repository: Repository, candidate: Path) -> None:
    repository.push(candidate)
    with pytest.raises(FolderError):
        repository.reject(2, {"reason": "it fails"})


def test_a_deleted_version_is_gone_and_noted(repository: Repository, candidate: Path) -> None:
    repository.push(candidate)
    repository.push(candidate)
    repository.delete(1)
    assert visible(repository) == ["2"]
    assert repository.leftovers() == []
    assert (repository.history()[-1]["what"], repository.history()[-1]["version"]) == ("prune", 1)


def test_a_copy_that_fails_leaves_nothing(repository: Repository, candidate: Path) -> None:
    files = Candidate(candidate)
    files.verify()
    (candidate / "saved_model.pb").write_bytes(b"other")
    with repository.locked(), pytest.raises(CandidateError):
        repository.publish(files)
    assert visible(repository) == []
    assert repository.leftovers() == []
    assert repository.history() == []


def test_an_interrupted_copy_is_removed_by_the_next_push(
    repository: Repository, candidate: Path
) -> None:
    for name in (".incoming-x", ".pruned-y"):
        (repository.path / name).mkdir(parents=True)
    assert len(repository.leftovers()) == 2
    assert repository.push(candidate) == 1
    assert repository.leftovers() == []


def test_a_broken_candidate_creates_no_folder(repository: Repository, candidate: Path) -> None:
    (candidate / "extra").write_bytes(b"")
    with pytest.raises(CandidateError):
        repository.push(candidate)
    assert not repository.path.exists()


def test_an_error_of_the_disk_is_a_folder_error(
    repository: Repository, candidate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(folder: Path) -> None:
        raise OSError(28, "No space left on device", str(folder))

    monkeypatch.setattr(local, "sync_tree", full)
    with pytest.raises(FolderError, match="No space left on device"):
        repository.push(candidate)
    assert visible(repository) == []


def test_a_file_in_place_of_the_folder_is_an_error(tmp_path: Path, candidate: Path) -> None:
    (tmp_path / "models").write_text("")
    with pytest.raises(FolderError):
        Repository(tmp_path / "models" / "garments").push(candidate)


def test_versions_are_readable_by_all(repository: Repository, candidate: Path) -> None:
    (candidate / "saved_model.pb").chmod(0o600)
    repository.push(candidate)
    assert (repository.path / "1" / "saved_model.pb").stat().st_mode & 0o777 == 0o644
    assert (repository.path / "1").stat().st_mode & 0o777 == 0o755


def test_a_lock_that_is_held_is_not_free(repository: Repository) -> None:
    with repository.locked(), Repository(repository.path).locked_if_free() as held:
        assert not held
    with repository.locked_if_free() as held:
        assert held


def test_a_history_that_cannot_be_read_is_an_error(repository: Repository) -> None:
    (repository.path / ".history.jsonl").mkdir(parents=True)
    with pytest.raises(FolderError):
        repository.history()
    with pytest.raises(FolderError):
        repository.note({"what": "x"})


def test_versions_that_cannot_be_listed_are_an_error(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.path.mkdir(parents=True)

    def denied(_: Path) -> dict[int, Path]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(local, "version_folders", denied)
    with pytest.raises(FolderError):
        repository.versions()
