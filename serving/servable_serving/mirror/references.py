"""The answers that a version's manifest says to expect."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING

from servable_serving.mirror.profile import Profile
from servable_serving.repository.manifest import MANIFEST

if TYPE_CHECKING:
    from pathlib import Path

# The field of the manifest.
REFERENCE = "reference"
_MOST = 200


class References:
    """Finds the reference of a version.

    Args:
        models_root: The folder with the models' folders; None for no references.
    """

    def __init__(self, models_root: Path | None) -> None:
        self._root = models_root
        self._read = lru_cache(_MOST)(_read)

    def __call__(self, model: str, version: int) -> Profile | None:
        """The profile at the version's export; None if there is none."""
        if self._root is None or "/" in model or model.startswith("."):
            return None
        path = self._root / model / str(version) / MANIFEST
        try:
            return self._read(path, path.stat().st_mtime_ns)
        except OSError:
            return None


def _read(path: Path, _: int) -> Profile | None:
    try:
        manifest = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return None
    return Profile.read(manifest.get(REFERENCE)) if isinstance(manifest, dict) else None
