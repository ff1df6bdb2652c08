"""Candidates of a few bytes, which are whole by their manifests and which no server could load."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from servable_serving.repository.manifest import MANIFEST, checksums

if TYPE_CHECKING:
    from pathlib import Path


def candidate(folder: Path, *, name: str = "m", graph: bytes = b"graph") -> Path:
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(graph)
    (folder / "variables" / "variables.index").write_bytes(b"index")
    path = folder / MANIFEST
    path.parent.mkdir()
    path.write_text(json.dumps({"name": name, "labels": ["a"], "sha256": checksums(folder)}))
    return folder
