"""The manifest of a candidate: where it comes from, and what every file in it should be."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from servable_client import ServableError

MANIFEST = Path("assets.extra/manifest.json")


class CandidateError(ServableError):
    """A candidate is no SavedModel by the contract, or not as it was exported."""


def check_name(name: object) -> None:
    """Refuse what cannot be a model's name: it is a folder's name and part of a URL too.

    Raises:
        CandidateError: It cannot.
    """
    if not (isinstance(name, str) and re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", name)):
        raise CandidateError(
            f"{name!r} cannot be a model's name", hint="use letters, digits, '_', '.' and '-'"
        )


def checksums(folder: Path) -> dict[str, str]:
    """SHA-256 of every file in a candidate, the manifest apart, by its path in the folder."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.relative_to(folder) != MANIFEST
    }


def check_candidate(candidate: Path) -> dict[str, Any]:
    """Hold a candidate against its manifest.

    Returns:
        The manifest.

    Raises:
        CandidateError: A file is missing, changed or not in the manifest.
    """
    hint = "`servable export` writes a candidate"
    if not (candidate / "saved_model.pb").is_file():
        raise CandidateError(f"{candidate} holds no SavedModel", hint=hint)
    try:
        manifest = json.loads((candidate / MANIFEST).read_text())
        expected = dict(manifest["sha256"])
        name, labels = manifest["name"], manifest["labels"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CandidateError(f"{candidate} has no readable manifest: {error}", hint=hint) from error
    check_name(name)
    if not (isinstance(labels, list) and all(isinstance(label, str) for label in labels)):
        raise CandidateError(f"{candidate} has a manifest without the classes' labels", hint=hint)
    for path in candidate.rglob("*"):
        # It would be copied as what it points to, unchecked.
        if path.is_symlink():
            raise CandidateError(f"{path} is a link", hint="export the candidate again")
    found = checksums(candidate)
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) == found.get(name):
            continue
        what = (
            "is missing" if name not in found
            else "is not in the manifest" if name not in expected
            else "is not as it was exported"
        )  # fmt: skip
        raise CandidateError(f"{candidate / name} {what}", hint="export the candidate again")
    return manifest  # type: ignore[no-any-return]


def manifest_of(folder: Path) -> dict[str, Any]:
    """A version's manifest; empty where it has none."""
    try:
        found = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def manifest_digest(folder: Path) -> str:
    """The SHA-256 of a manifest, which holds those of all other files.

    Raises:
        OSError: It cannot be read.
    """
    return hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()
