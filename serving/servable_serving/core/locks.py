"""File locks between processes; the kernel releases one when its holder exits."""

from __future__ import annotations

import fcntl
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from servable_serving.core.errors import FolderError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@contextmanager
def locked(path: Path, *, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold a lock for the duration of the block; wait for another holder.

    Args:
        path: The lock file, created if missing.
        waiting: Called before the wait, if another holder has it.

    Raises:
        FolderError: The file cannot be written.
    """
    with _opened(path) as lock:
        if not taken(lock):
            waiting()
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def locked_if_free(path: Path) -> Iterator[bool]:
    """Hold a lock for the duration of the block if it is free; yields whether it is held.

    Raises:
        FolderError: The file cannot be written.
    """
    with _opened(path) as lock:
        yield taken(lock)


def _opened(path: Path) -> IO[str]:
    try:
        return path.open("a")
    except OSError as error:
        raise FolderError(f"cannot write to {path.parent}: {error.strerror or error}") from error


def taken(lock: IO[str]) -> bool:
    """Take an open file's lock unless another holder has it; closing the file releases it.

    Returns:
        Whether it was taken.
    """
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
