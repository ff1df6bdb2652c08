"""Version folders: the naming rules that server and push share."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_LIMIT = 1 << 63
# absl::SimpleAtoi, with which TensorFlow Serving reads a folder's name.
_NUMBER = re.compile(r"[ \t\n\v\f\r]*([+-]?[0-9]{1,99})[ \t\n\v\f\r]*")


def version_of(name: str) -> int | None:
    """The version that a folder's name denotes: a 64-bit number, possibly with leading zeros.

    None for any other name, which servers ignore.
    """
    found = _NUMBER.fullmatch(name)
    version = int(found[1]) if found else _LIMIT
    return version if -_LIMIT <= version < _LIMIT else None


def version_folders(base_path: Path) -> dict[int, Path]:
    """The entries of `base_path` that are named after a version, by version.

    If two names denote one version, the last in the alphabet counts. A file is a version
    too, which then fails to load, as in TensorFlow Serving.

    Raises:
        OSError: It cannot be listed.
    """
    return {
        version: entry
        for entry in sorted(base_path.iterdir())
        if (version := version_of(entry.name)) is not None
    }
