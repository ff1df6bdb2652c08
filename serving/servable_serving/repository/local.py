"""The model repository: version folders that are whole, or not there at all."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from servable_serving.core.errors import FolderError
from servable_serving.core.files import atomic_write, new_folder, sync_folder, sync_tree
from servable_serving.core.locks import locked, locked_if_free
from servable_serving.repository import history
from servable_serving.repository.layout import version_folders
from servable_serving.repository.manifest import MANIFEST, check_candidate, manifest_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from servable_serving.repository.history import Event

_LOCK = ".lock"
_INCOMING = ".incoming-"
_PRUNED = ".pruned-"
_REJECTED = ".rejected"
_REASON = "reason.json"


class Repository:
    """The versions of one model.

    Args:
        path: The folder with the version folders; made by the first push.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def versions(self) -> list[int]:
        """The versions in the repository, lowest first."""
        return sorted(self.folders())

    def folders(self) -> dict[int, Path]:
        """Where each version is.

        Raises:
            FolderError: The repository cannot be read.
        """
        try:
            return version_folders(self.path) if self.path.is_dir() else {}
        except OSError as error:
            raise FolderError(f"cannot read {self.path}: {error.strerror}") from error

    def rejected(self) -> dict[int, Path]:
        """Where each version is that was taken out again."""
        gone = self.path / _REJECTED
        return version_folders(gone) if gone.is_dir() else {}

    def push(self, candidate: Path) -> int:
        """Bring a candidate in as the next version.

        It has a name that servers pass over until it is whole and on the disk. No gate is asked,
        and no server: `servable push` does that before and after.

        Args:
            candidate: A folder that `export` wrote; it stays where it is.

        Returns:
            The version.

        Raises:
            CandidateError: It is not whole, or not as it was exported.
            FolderError: The repository cannot be written.
        """
        check_candidate(candidate)
        with self.locked():
            return self.bring(lambda incoming: copy(candidate, incoming))

    def bring(
        self,
        fill: Callable[[Path], None],
        *,
        version: int | None = None,
        about: Mapping[str, Any] | None = None,
        again: bool = False,
    ) -> int:
        """Bring a version in; the repository is `locked`.

        Args:
            fill: Writes a candidate's files into a folder that servers pass over.
            version: Its number; the next unless given.
            about: What its manifest's history and the repository's are to say of it.
            again: Whether a number may be taken that was used here before, and is not now: where
                another repository gives the numbers, and this one is its mirror.

        Returns:
            The version.

        Raises:
            CandidateError: What was written is not whole, or not as it was exported.
            FolderError: The repository cannot be written, or there is or was such a version.
        """
        self._clear_left()
        used = self._used()
        if version is None:
            # The highest ever used plus one: the number of a version that was taken away must
            # not come back with another model behind it.
            version = max(used) + 1
        elif version < 1 or version in (self.folders() if again else used):
            raise FolderError(
                f"version {version} of {self.path.name} "
                + ("exists already" if version in self.folders() else "cannot be had"),
                hint=f"the next is {max(used) + 1}, which it gets unless told; no number that "
                "was used before comes back",
            )
        happened = history.event("publish", version=version, **(about or {}))
        with new_folder(self.path / str(version), incoming_prefix=_INCOMING) as incoming:
            fill(incoming)
            # What was copied, and not what lay there a moment ago.
            check_candidate(incoming)
            _keep_history(incoming, happened)
            _open_to_readers(incoming)
            sync_tree(incoming)
            self._remember(max([version, *used]))
            digest = manifest_digest(incoming)
        sync_folder(self.path)
        self.note({**happened, "manifest_sha256": digest})
        return version

    def reject(self, version: int, reason: Mapping[str, Any]) -> Path:
        """Take a version out of sight, with the reason beside its files.

        Raises:
            FolderError: The repository cannot be written.
        """
        target = self.path / _REJECTED / str(version)
        happened = history.event("reject", version=version, **reason)
        try:
            target.parent.mkdir(exist_ok=True)
            (self.path / str(version)).rename(target)
            sync_folder(self.path)
            with suppress(OSError):  # of a disk that is full: that it is out of sight counts
                atomic_write(target / _REASON, json.dumps(happened, indent=1) + "\n")
        except OSError as error:
            raise FolderError(f"cannot write to {target}: {error.strerror}") from error
        with suppress(FolderError):
            self.note(happened)
        return target

    def delete(self, version: int) -> None:
        """Take a version away for good; its number does not come back.

        Raises:
            FolderError: The repository cannot be written.
        """
        try:
            self._remember(max(self._used()))
            pruned = tempfile.mkdtemp(dir=self.path, prefix=_PRUNED)
            # At once out of sight, so that no server reads half of it.
            self.folders()[version].rename(os.path.join(pruned, str(version)))  # noqa: PTH118
            sync_folder(self.path)
            shutil.rmtree(pruned)
        except OSError as error:
            raise FolderError(f"cannot write to {self.path}: {error.strerror}") from error
        self.note(history.event("prune", version=version))

    def history(self) -> list[Event]:
        """What was done to the versions, oldest first.

        Raises:
            FolderError: It cannot be read.
        """
        try:
            return history.read(self.path)
        except OSError as error:
            raise FolderError(
                f"cannot read the history in {self.path}: {error.strerror}"
            ) from error

    def note(self, happened: Event) -> None:
        """Write an event into the history.

        Raises:
            FolderError: It cannot be written.
        """
        try:
            history.add(self.path, happened)
        except OSError as error:
            raise FolderError(
                f"cannot write the history in {self.path}: {error.strerror}"
            ) from error

    @contextmanager
    def locked(self, *, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Keep two pushes apart; the system gives the lock back when its holder dies.

        Args:
            waiting: Called where another holds it, before it is waited for.

        Raises:
            FolderError: The repository cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FolderError(f"cannot write to {self.path}: {error.strerror or error}") from error
        with locked(self.path / _LOCK, waiting=waiting):
            yield

    def locked_if_free(self) -> AbstractContextManager[bool]:
        """The lock where nobody holds it: whether it is held.

        Raises:
            FolderError: The repository cannot be written.
        """
        return locked_if_free(self.path / _LOCK)

    def leftovers(self) -> list[Path]:
        """What a push or a pruning left behind that was killed, or is at work."""
        return [p for prefix in (_INCOMING, _PRUNED) for p in self.path.glob(f"{prefix}*")]

    def _used(self) -> list[int]:
        """Every version number that is or was used, and 0."""
        last = (self.path / _LOCK).read_text().strip()
        told = [e["version"] for e in self.history() if isinstance(e.get("version"), int)]
        return [
            0, *self.folders(), *self.rejected(), *told, int(last) if last.isdigit() else 0
        ]  # fmt: skip

    def _remember(self, version: int) -> None:
        """Keep the highest number that was ever used."""
        # Over what is there, and in one go: it never gets shorter, and is never empty.
        handle = os.open(self.path / _LOCK, os.O_WRONLY)
        try:
            os.pwrite(handle, f"{version}\n".encode(), 0)
            os.fsync(handle)
        finally:
            os.close(handle)

    def _clear_left(self) -> None:
        """What a push left behind that was killed: none is under way, the lock is ours."""
        for left in self.leftovers():
            shutil.rmtree(left, ignore_errors=True)


def copy(candidate: Path, incoming: Path) -> None:
    """Copy a candidate's files into a folder that is there.

    Raises:
        OSError: They cannot be read or written.
    """
    # File by file: copytree goes on after a failure, and hides its reason among others'.
    for path in sorted(candidate.rglob("*")):
        target = incoming / path.relative_to(candidate)
        if path.is_dir():
            target.mkdir()
        else:
            shutil.copyfile(path, target)


def _keep_history(folder: Path, happened: Event) -> None:
    """Add an event to the history in a version's own manifest, before it is published."""
    path = folder / MANIFEST
    manifest = json.loads(path.read_text())
    manifest["history"] = [*manifest.get("history", ()), happened]
    atomic_write(path, json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")


def _open_to_readers(folder: Path) -> None:
    """Let a server of another user read a version, whatever the umask of who pushed it."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
