"""A candidate's files: read once, verified, copied from the bytes that are hashed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.unit.serving.repository.candidates import edit_manifest, make_candidate, sign

from servable_serving.repository import candidate as module
from servable_serving.repository.candidate import Candidate, check_candidate
from servable_serving.repository.manifest import MANIFEST, CandidateError, checksums

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_candidate(tmp_path / "candidate")


def files(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def test_the_manifest_is_read_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    original = Path.read_bytes

    def counted(path: Path) -> bytes:
        read.append(path)
        return original(path)

    candidate = Candidate(folder)
    monkeypatch.setattr(Path, "read_bytes", counted)
    assert candidate.name == "garments"
    assert candidate.labels == ["boot", "shirt"]
    assert candidate.verify()["name"] == "garments"
    assert len(candidate.manifest_sha256) == 64
    assert read == [folder / MANIFEST]


def test_nothing_is_read_before_it_is_needed(tmp_path: Path) -> None:
    assert str(Candidate(tmp_path / "missing")) == str(tmp_path / "missing")


def test_files_are_hashed_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Path] = []
    original = checksums

    def counted(path: Path) -> dict[str, str]:
        calls.append(path)
        return original(path)

    monkeypatch.setattr(module, "checksums", counted)
    candidate = Candidate(folder)
    candidate.verify()
    candidate.verify()
    assert calls == [folder]
    candidate.verify_again()
    assert calls == [folder, folder]


def test_the_digest_is_that_of_the_manifest_file(folder: Path) -> None:
    expected = hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()
    assert Candidate(folder).manifest_sha256 == expected


def test_check_candidate_returns_the_manifest(folder: Path) -> None:
    assert check_candidate(folder) == json.loads((folder / MANIFEST).read_text())


def remove_graph(folder: Path) -> None:
    (folder / "saved_model.pb").unlink()


def remove_file(folder: Path) -> None:
    (folder / "variables" / "variables.index").unlink()


def change_file(folder: Path) -> None:
    (folder / "variables" / "variables.index").write_bytes(b"Weights")


def add_file(folder: Path) -> None:
    (folder / "extra").write_bytes(b"")


def link_file(folder: Path) -> None:
    (folder / "link").symlink_to(folder / "saved_model.pb")


def link_folder(folder: Path) -> None:
    (folder / "link").symlink_to("/etc")


def link_nowhere(folder: Path) -> None:
    (folder / "link").symlink_to(folder / "missing")


def remove_manifest(folder: Path) -> None:
    (folder / MANIFEST).unlink()


def break_manifest(folder: Path) -> None:
    (folder / MANIFEST).write_text("{")


def list_for_manifest(folder: Path) -> None:
    (folder / MANIFEST).write_text("[]")


def no_checksums(folder: Path) -> None:
    edit_manifest(folder, sha256=None)


def number_for_checksums(folder: Path) -> None:
    edit_manifest(folder, sha256=3)


def no_name(folder: Path) -> None:
    edit_manifest(folder, name=None)


def path_for_name(folder: Path) -> None:
    edit_manifest(folder, name="../elsewhere")


def numbers_for_labels(folder: Path) -> None:
    edit_manifest(folder, labels=[1, 2])


def text_for_labels(folder: Path) -> None:
    edit_manifest(folder, labels="boot")


BREAKING = [
    remove_graph, remove_file, change_file, add_file, link_file, link_folder, link_nowhere,
    remove_manifest, break_manifest, list_for_manifest, no_checksums, number_for_checksums,
    no_name, path_for_name, numbers_for_labels, text_for_labels,
]  # fmt: skip


@pytest.mark.parametrize("breaking", BREAKING)
def test_a_broken_candidate_is_refused(folder: Path, breaking: Callable[[Path], None]) -> None:
    breaking(folder)
    with pytest.raises(CandidateError):
        Candidate(folder).verify()


@pytest.mark.parametrize(
    ("values", "is_classifier"),
    [
        ({}, True),
        ({"kind": "image_classifier"}, True),
        ({"kind": "any"}, False),
        ({"labels": None}, False),
        ({"labels": []}, False),
    ],
)
def test_only_a_classifier_has_labels_and_a_contract(
    folder: Path, values: dict[str, object], is_classifier: bool
) -> None:
    edit_manifest(folder, **values)
    candidate = Candidate(folder)
    candidate.verify()
    assert candidate.is_classifier is is_classifier
    assert candidate.labels == ([] if "labels" in values else ["boot", "shirt"])


def test_the_name_is_known_even_if_the_checksums_are_not(folder: Path) -> None:
    edit_manifest(folder, sha256=None)
    assert Candidate(folder).name == "garments"


@pytest.mark.parametrize("breaking", [remove_manifest, break_manifest, no_name, path_for_name])
def test_there_is_no_name_without_a_valid_one(
    folder: Path, breaking: Callable[[Path], None]
) -> None:
    breaking(folder)
    with pytest.raises(CandidateError):
        _ = Candidate(folder).name


def test_a_copy_has_the_same_files(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "copy"
    target.mkdir()
    Candidate(folder).copy_to(target)
    assert files(target) == files(folder)


@pytest.mark.parametrize("breaking", [remove_file, change_file, add_file, link_file, link_folder])
def test_a_copy_is_refused_if_a_file_changes_after_it_was_verified(
    folder: Path, tmp_path: Path, breaking: Callable[[Path], None]
) -> None:
    candidate = Candidate(folder)
    candidate.verify()
    breaking(folder)
    target = tmp_path / "copy"
    target.mkdir()
    with pytest.raises(CandidateError):
        candidate.copy_to(target)


def test_a_copy_is_refused_if_files_and_manifest_are_replaced_together(
    folder: Path, tmp_path: Path
) -> None:
    candidate = Candidate(folder)
    candidate.verify()
    change_file(folder)
    sign(folder, name="garments", labels=["boot", "shirt"])
    target = tmp_path / "copy"
    target.mkdir()
    with pytest.raises(CandidateError):
        candidate.copy_to(target)


def test_a_copy_has_the_manifest_that_was_verified(folder: Path, tmp_path: Path) -> None:
    candidate = Candidate(folder)
    candidate.verify()
    before = (folder / MANIFEST).read_bytes()
    edit_manifest(folder, seed=7)
    target = tmp_path / "copy"
    target.mkdir()
    candidate.copy_to(target)
    assert (target / MANIFEST).read_bytes() == before


def test_a_large_file_is_copied_in_pieces(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CHUNK", 3)
    target = tmp_path / "copy"
    target.mkdir()
    Candidate(folder).copy_to(target)
    assert files(target) == files(folder)


def test_a_file_that_cannot_be_read_is_an_os_error(folder: Path, tmp_path: Path) -> None:
    candidate: Any = Candidate(folder)
    with pytest.raises(OSError, match="missing"):
        candidate.copy_to(tmp_path / "missing")
