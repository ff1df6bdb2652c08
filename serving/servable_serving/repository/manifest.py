"""The manifest of a candidate: its origin, and the checksum of every file in it."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

from servable_client import ServableError
from servable_serving.core.files import regular
from servable_serving.core.json_text import parse_json

MANIFEST = Path("assets.extra/manifest.json")

# Kinds of models: one that keeps the model contract, and one with signatures of its own.
IMAGE_CLASSIFIER, ANY_MODEL = "image_classifier", "any"


class CandidateError(ServableError):
    """A candidate does not follow the contract, or is not as it was exported."""


def check_name(name: object) -> None:
    """Refuse an invalid model name: it is a folder's name and part of a URL too.

    Raises:
        CandidateError: The name is not valid.
    """
    if not (isinstance(name, str) and re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", name)):
        raise CandidateError(
            f"{name!r} cannot be a model's name", hint="use letters, digits, '_', '.' and '-'"
        )


def checksums(folder: Path) -> dict[str, str]:
    """SHA-256 of every file in a candidate except the manifest, by its path in the folder."""
    return {
        path.relative_to(folder).as_posix(): _sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.relative_to(folder) != MANIFEST
    }


def manifest_of(folder: Path) -> dict[str, Any]:
    """A version's manifest; empty if it has none."""
    try:
        found = parse_json(regular(folder / MANIFEST).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def manifest_digest(folder: Path) -> str:
    """The SHA-256 of a manifest, which holds those of all other files.

    Raises:
        OSError: It cannot be read.
    """
    return hashlib.sha256(regular(folder / MANIFEST).read_bytes()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
