"""Atomic creation and replacement of files and folders."""

from __future__ import annotations

import errno
import glob
import os
import shutil
import stat
import tempfile
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from servable_serving.core.errors import FolderError

if TYPE_CHECKING:
    import logging
    from collections.abc import Iterator

    from servable_client import ServableError


@contextmanager
def new_folder(target: Path, *, incoming_prefix: str | None = None) -> Iterator[Path]:
    """A folder to fill: renamed to `target` when the block succeeds, deleted when it fails.

    Args:
        target: The final folder; a missing parent is created.
        incoming_prefix: Prefix of the temporary folder's name, beside `target`.

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
        incoming.chmod(0o755)  # with mkdtemp's 0700 a server of another user could not read it
        yield incoming
        incoming.rename(target)
    except (OSError, shutil.Error) as error:
        reason = getattr(error, "strerror", None) or "some files could not be copied"
        raise FolderError(f"cannot write {target}: {reason}") from error
    finally:
        shutil.rmtree(incoming, ignore_errors=True)


def warn_if_readable_by_all(path: Path, logger: logging.Logger) -> None:
    """Log a warning about a file of secrets that every user of this machine may read."""
    with suppress(OSError):
        if path.stat().st_mode & stat.S_IROTH:
            logger.warning("%s is secret and readable by every user: chmod o-r it", path)


def regular(path: Path) -> Path:
    """The path of a regular file: to open a FIFO would wait for its writer, perhaps for ever.

    Raises:
        OSError: It cannot be found, or is a FIFO, a socket or a device.
    """
    if not stat.S_ISREG(mode := path.stat().st_mode) and not stat.S_ISDIR(mode):
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return path


def check_absent(target: Path) -> None:
    """Fail early if a folder that is about to be created exists.

    Raises:
        FolderError: It exists.
    """
    try:
        exists = target.exists()
    except OSError as error:
        raise FolderError(f"cannot write to {target}: {error.strerror}") from error
    if exists:
        raise FolderError(f"{target} exists already", hint="name a new folder, or remove this one")


def sync_tree(folder: Path) -> None:
    """Flush every file and folder of a tree to disk."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        else:
            sync_folder(path)
    sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk: what was created in it, renamed or deleted."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def folder_size(folder: Path) -> int:
    """Total size of all files in a folder, in bytes."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def read_lines(path: Path, error: type[ServableError]) -> list[str]:
    """The lines of a file that are neither empty nor comments; none without the file.

    Args:
        path: The file; `#` begins a comment.
        error: What is raised if it cannot be read.
    """
    try:
        text = path.read_text()
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as cause:
        reason = getattr(cause, "strerror", None) or cause
        raise error(f"cannot read {path}: {reason}") from cause
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def atomic_write(path: Path, content: str | bytes, *, durable: bool = False) -> None:
    """Replace a file by a rename, so that readers find the old content or the new one, whole.

    Any number of threads and processes may write the same file at once; the last rename wins.

    Args:
        path: The file; its folder exists.
        content: Text is written as UTF-8.
        durable: Whether the rename must survive a power failure too. The content always does:
            after a crash the file is never empty or half written.

    Raises:
        OSError: It cannot be written; the old content stays.
    """
    incoming = path.with_name(f"{_incoming_prefix(path)}{uuid.uuid4().hex}")
    try:
        # Not mkstemp, whose mode 0600 excludes other users: the umask applies, as for any file.
        with incoming.open("xb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        incoming.replace(path)
    except BaseException:
        incoming.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


def remove_leftovers(path: Path) -> None:
    """Delete what writers of a file left behind that were killed in `atomic_write`.

    For callers that keep other writers out, by a lock: a write under way would be broken.
    """
    for left in path.parent.glob(f"{glob.escape(_incoming_prefix(path))}*"):
        left.unlink(missing_ok=True)


def _incoming_prefix(path: Path) -> str:
    return f".{path.name}.incoming-"
