"""Folders that are whole or not there at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from servable_serving.core.errors import FolderError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def new_folder(target: Path, *, incoming_prefix: str | None = None) -> Iterator[Path]:
    """A folder to fill that becomes `target` when the block ends well, and vanishes otherwise.

    Args:
        target: The folder to be; its parent is made where it is missing.
        incoming_prefix: How the folder is called until then; it stands beside `target`.

    Raises:
        FolderError: `target` exists, or it cannot be written.
    """
    check_absent(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        incoming = Path(
            tempfile.mkdtemp(dir=target.parent, prefix=incoming_prefix or f".{target.name}-")
        )
    except OSError as error:
        raise FolderError(f"cannot write to {target.parent}: {error.strerror}") from error
    try:
        incoming.chmod(0o755)  # mkdtemp's 0700 would keep a server of another user out
        yield incoming
        incoming.rename(target)
    except (OSError, shutil.Error) as error:
        reason = getattr(error, "strerror", None) or "some files could not be copied"
        raise FolderError(f"cannot write {target}: {reason}") from error
    finally:
        shutil.rmtree(incoming, ignore_errors=True)


def check_absent(target: Path) -> None:
    """Refuse a folder that exists, before any work is done for it.

    Raises:
        FolderError: It does.
    """
    try:
        exists = target.exists()
    except OSError as error:
        raise FolderError(f"cannot write to {target}: {error.strerror}") from error
    if exists:
        raise FolderError(f"{target} exists already", hint="name a new folder, or remove this one")


def sync_tree(folder: Path) -> None:
    """Have every file and folder of a tree on the disk."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        else:
            sync_folder(path)
    sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Have a folder's names on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def folder_size(folder: Path) -> int:
    """Bytes in all files of a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def atomic_write(path: Path, content: str | bytes) -> None:
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
