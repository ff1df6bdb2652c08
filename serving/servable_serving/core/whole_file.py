"""Files that are whole, the old one or the new one, whenever the process ends."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file beside its place, and bring it there by a rename.

    Raises:
        OSError: It cannot be written; what was there before stays.
    """
    # Named by the process: a chief and a worker may share a folder.
    incoming = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with incoming.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        incoming.replace(path)
    except OSError:
        incoming.unlink(missing_ok=True)
        raise
