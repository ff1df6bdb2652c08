"""A candidate's files: each is read and hashed once, the manifest is read once.

What was verified is what is published: the copy is written from the bytes that are hashed on their
way, against the checksums that the gates saw, and the manifest is the one that was parsed then.
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import TYPE_CHECKING, Any

from servable_serving.core.files import regular
from servable_serving.core.json_text import parse_json
from servable_serving.repository.manifest import (
    IMAGE_CLASSIFIER,
    MANIFEST,
    CandidateError,
    check_name,
    checksums,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_HINT = "`servable export MODEL` writes a candidate, from a SavedModel too"
_EXPORT_AGAIN = "export the candidate again"
_CHUNK = 1 << 20


class Candidate:
    """A folder as `export` writes it, or a version of a repository.

    Nothing is read before it is asked for, and nothing twice.

    Args:
        folder: The folder; it is not modified.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._verified = False

    def __str__(self) -> str:
        return str(self.folder)

    @property
    def name(self) -> str:
        """The model's name, even if the rest of the manifest is damaged.

        Raises:
            CandidateError: The manifest has no valid name.
        """
        try:
            name = parse_json(self.manifest_bytes)["name"]
            check_name(name)
        except (CandidateError, OSError, ValueError, KeyError, TypeError):
            name = self.manifest["name"]
        return str(name)

    @cached_property
    def manifest(self) -> Mapping[str, Any]:
        """The manifest; the files are not verified yet.

        Raises:
            CandidateError: There is no SavedModel, or its manifest cannot be read.
        """
        if not (self.folder / "saved_model.pb").is_file():
            raise CandidateError(f"{self.folder} holds no SavedModel", hint=_HINT)
        try:
            manifest: dict[str, Any] = parse_json(self.manifest_bytes)
            dict(manifest["sha256"])
            name, labels = manifest["name"], manifest.get("labels", [])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CandidateError(
                f"{self.folder} has no readable manifest: {error}", hint=_HINT
            ) from error
        check_name(name)
        if not (isinstance(labels, list) and all(isinstance(label, str) for label in labels)):
            raise CandidateError(
                f"{self.folder} has a manifest whose labels are not a list of names", hint=_HINT
            )
        return manifest

    @property
    def is_classifier(self) -> bool:
        """Whether it is an image classifier, and must keep the model contract."""
        return bool(self.labels) and self.manifest.get("kind") in (None, IMAGE_CLASSIFIER)

    @property
    def labels(self) -> list[str]:
        """The names of the classes, in the order of their numbers; empty if there are none."""
        return list(self.manifest.get("labels", []))

    @cached_property
    def manifest_bytes(self) -> bytes:
        """The manifest's file.

        Raises:
            OSError: It cannot be read.
        """
        return regular(self.folder / MANIFEST).read_bytes()

    @property
    def manifest_sha256(self) -> str:
        """The SHA-256 of the manifest, which holds those of all other files."""
        return hashlib.sha256(self.manifest_bytes).hexdigest()

    def verify(self) -> Mapping[str, Any]:
        """Compare every file with its checksum in the manifest; only once.

        Returns:
            The manifest.

        Raises:
            CandidateError: A file is missing, changed or not in the manifest.
        """
        if not self._verified:
            self.verify_again()
        return self.manifest

    def verify_again(self) -> None:
        """Compare every file with its checksum, though it may have been done before.

        Raises:
            CandidateError: A file is missing, changed or not in the manifest.
        """
        _ = self.manifest
        for path in self.folder.rglob("*"):
            _refuse_special(path)
        self._compare(checksums(self.folder))
        self._verified = True

    def copy_to(self, target: Path) -> None:
        """Copy the files into an empty folder; each is hashed as it is written.

        Raises:
            CandidateError: A file has changed since the manifest was read, or is not in it.
            OSError: They cannot be read or written.
        """
        found: dict[str, str] = {}
        # File by file: shutil.copytree continues after an error, and hides its reason.
        for path in sorted(self.folder.rglob("*")):
            relative = path.relative_to(self.folder)
            _refuse_special(path)
            if path.is_dir():
                (target / relative).mkdir()
            elif relative == MANIFEST:
                (target / relative).write_bytes(self.manifest_bytes)
            else:
                found[relative.as_posix()] = _copy(path, target / relative)
        self._compare(found)

    def _compare(self, found: Mapping[str, str]) -> None:
        expected = dict(self.manifest["sha256"])
        for name in sorted(expected.keys() | found.keys()):
            if expected.get(name) == found.get(name):
                continue
            what = (
                "is missing" if name not in found
                else "is not in the manifest" if name not in expected
                else "is not as it was exported"
            )  # fmt: skip
            raise CandidateError(f"{self.folder / name} {what}", hint=_EXPORT_AGAIN)


def check_candidate(candidate: Path) -> dict[str, Any]:
    """Verify a candidate against its manifest.

    Returns:
        The manifest.

    Raises:
        CandidateError: A file is missing, changed or not in the manifest.
    """
    return dict(Candidate(candidate).verify())


def _copy(source: Path, target: Path) -> str:
    """Copy a file; the SHA-256 of what was written."""
    digest = hashlib.sha256()
    with source.open("rb") as file, target.open("wb") as out:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            out.write(chunk)
    return digest.hexdigest()


def _refuse_special(path: Path) -> None:
    # A link's target would be copied, unverified.
    if path.is_symlink():
        raise CandidateError(f"{path} is a link", hint=_EXPORT_AGAIN)
    if not (path.is_file() or path.is_dir()):
        raise CandidateError(f"{path} is not a regular file", hint=_EXPORT_AGAIN)
