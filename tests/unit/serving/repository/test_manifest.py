"""The manifest of a version, and which names are valid."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest
from tests.unit.serving.repository.candidates import make_candidate

from servable_serving.repository.manifest import (
    MANIFEST,
    CandidateError,
    check_name,
    checksums,
    manifest_digest,
    manifest_of,
)

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("name", ["a", "fashion_mnist", "A.b-c_1", "9", "x" * 128])
def test_a_valid_name(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "-a", "a b", "x" * 129, "ä", None, 3])
def test_an_invalid_name(name: object) -> None:
    with pytest.raises(CandidateError):
        check_name(name)


def test_every_file_but_the_manifest_has_a_checksum(tmp_path: Path) -> None:
    folder = make_candidate(tmp_path / "candidate")
    assert checksums(folder) == {
        "saved_model.pb": hashlib.sha256(b"graph").hexdigest(),
        "variables/variables.index": hashlib.sha256(b"weights").hexdigest(),
    }


def test_a_folder_without_a_manifest_has_an_empty_one(tmp_path: Path) -> None:
    assert manifest_of(tmp_path) == {}


@pytest.mark.parametrize("text", ["{", "[]", "3", ""])
def test_an_invalid_manifest_is_an_empty_one(tmp_path: Path, text: str) -> None:
    folder = make_candidate(tmp_path / "candidate")
    (folder / MANIFEST).write_text(text)
    assert manifest_of(folder) == {}


def test_the_manifest_is_a_dictionary(tmp_path: Path) -> None:
    assert manifest_of(make_candidate(tmp_path / "candidate"))["name"] == "garments"


def test_the_digest_changes_with_the_manifest(tmp_path: Path) -> None:
    one = make_candidate(tmp_path / "one")
    other = make_candidate(tmp_path / "other", seed=7)
    assert manifest_digest(one) != manifest_digest(other)
