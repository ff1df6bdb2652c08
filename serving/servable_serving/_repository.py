"""The model repository: version folders that are whole, or not there at all."""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from servable_serving._folder import FolderError, new_folder
from servable_serving._manifest import check_candidate
from servable_serving._version_folders import version_folders

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LOCK = ".lock"
_INCOMING = ".incoming-"


class Repository:
    """The versions of one model.

    Args:
        path: The folder with the version folders; made by the first push.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def versions(self) -> list[int]:
        """The versions in the repository, lowest first."""
        return sorted(version_folders(self.path)) if self.path.is_dir() else []

    def push(self, candidate: Path) -> int:
        """Bring a candidate in as the next version.

        It has a name that servers pass over until it is whole and on the disk.

        Args:
            candidate: A folder that `export` wrote; it stays where it is.

        Returns:
            The version.

        Raises:
            CandidateError: It is not whole, or not as it was exported.
            FolderError: The repository cannot be written.
        """
        check_candidate(candidate)
        with self._locked():
            self._clear_incoming()
            # The highest ever used plus one: the number of a version that was taken away must
            # not come back with another model behind it.
            version = max(self._used()) + 1
            with new_folder(self.path / str(version), incoming_prefix=_INCOMING) as incoming:
                shutil.copytree(candidate, incoming, dirs_exist_ok=True)
                # What was copied, and not what lay there a moment ago.
                check_candidate(incoming)
                _open_to_readers(incoming)
                _sync(incoming)
            _sync_folder(self.path)
            (self.path / _LOCK).write_text(f"{version}\n")
        return version

    def _used(self) -> list[int]:
        """Every version number that is or was used, and 0."""
        rejected = self.path / ".rejected"
        gone = version_folders(rejected) if rejected.is_dir() else {}
        last = (self.path / _LOCK).read_text().strip()
        return [0, *self.versions(), *gone, int(last) if last.isdigit() else 0]

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep two pushes apart; the system gives the lock back when its holder dies."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with (self.path / _LOCK).open("a+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
        except OSError as error:
            raise FolderError(f"cannot write to {self.path}: {error.strerror or error}") from error

    def _clear_incoming(self) -> None:
        """What a push left behind that was killed: none is under way, the lock is ours."""
        for left in self.path.glob(f"{_INCOMING}*"):
            shutil.rmtree(left, ignore_errors=True)


def _open_to_readers(folder: Path) -> None:
    """Let a server of another user read a version, whatever the umask of who pushed it."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _sync(folder: Path) -> None:
    """Have every file and folder on the disk before the rename that makes it visible."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        else:
            _sync_folder(path)
    _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
