"""What counts as a version folder, for the server that reads and the push that writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_MAX_VERSION = (1 << 63) - 1


def version_of(name: str) -> int | None:
    """The version that a folder's name stands for: a 64-bit number, leading zeros or not.

    None where it is another name, which servers pass over.
    """
    if not (name.isascii() and name.isdigit()):
        return None
    version = int(name) if len(name) < 100 else _MAX_VERSION + 1
    return version if version <= _MAX_VERSION else None


def version_folders(base_path: Path) -> dict[int, Path]:
    """The version folders under `base_path`, by version.

    Raises:
        OSError: It cannot be listed.
    """
    return {
        version: entry
        for entry in sorted(base_path.iterdir())
        if (version := version_of(entry.name)) is not None and entry.is_dir()
    }
