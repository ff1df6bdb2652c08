"""Candidates of a few bytes, with a manifest that fits them."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from servable_serving.repository.manifest import MANIFEST

if TYPE_CHECKING:
    from pathlib import Path

LABELS = ["boot", "shirt"]


def make_candidate(folder: Path, *, graph: bytes = b"graph", **manifest: Any) -> Path:
    """Write a candidate; no TensorFlow could load it."""
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(graph)
    (folder / "variables" / "variables.index").write_bytes(b"weights")
    sign(folder, **{"name": "garments", "labels": LABELS, **manifest})
    return folder


def sign(folder: Path, **manifest: Any) -> None:
    """Write a manifest over the files of a folder."""
    path = folder / MANIFEST
    path.parent.mkdir(exist_ok=True)
    sums = {
        file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in folder.rglob("*")
        if file.is_file() and file != path
    }
    path.write_text(json.dumps({**manifest, "sha256": sums}))


def edit_manifest(folder: Path, **values: Any) -> None:
    """Change values of a manifest; None removes one."""
    path = folder / MANIFEST
    manifest = {**json.loads(path.read_text()), **values}
    path.write_text(json.dumps({k: v for k, v in manifest.items() if v is not None}))
