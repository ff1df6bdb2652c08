"""The model repository: version folders that are complete, or absent."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from servable_serving.core.errors import FolderError
from servable_serving.core.files import atomic_write, new_folder, sync_folder, sync_tree
from servable_serving.core.json_text import parse_json
from servable_serving.core.locks import locked, locked_if_free
from servable_serving.repository import history
from servable_serving.repository.candidate import Candidate
from servable_serving.repository.layout import version_folders
from servable_serving.repository.manifest import MANIFEST, manifest_digest

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
        """Where each version is that was quarantined."""
        gone = self.path / _REJECTED
        return version_folders(gone) if gone.is_dir() else {}

    def push(self, candidate: Path) -> int:
        """Publish a candidate as the next version, without gates and without a server.

        `servable push` runs the gates before, and waits for the servers after.

        Args:
            candidate: A folder that `export` wrote; it is not modified.

        Returns:
            The version.

        Raises:
            CandidateError: It is incomplete, or not as it was exported.
            FolderError: The repository cannot be written.
        """
        files = Candidate(candidate)
        files.verify()
        with self.locked():
            return self.publish(files)

    def publish(
        self,
        candidate: Candidate,
        *,
        version: int | None = None,
        about: Mapping[str, Any] | None = None,
    ) -> int:
        """Publish a candidate; the repository is `locked`.

        The files are compared with the manifest that `candidate` has read as they are copied.
        Servers ignore the folder's name until it is complete and on the disk.

        Args:
            candidate: The candidate.
            version: Its number; the next unless given.
            about: Facts for the history, of the version and of the repository.

        Returns:
            The version.

        Raises:
            CandidateError: A file has changed since the manifest was read.
            FolderError: The repository cannot be written, or there is or was such a version.
        """
        return self._publish(candidate.copy_to, version, about or {}, reuse=False)

    def receive(
        self,
        fill: Callable[[Path], None],
        *,
        version: int,
        about: Mapping[str, Any] | None = None,
    ) -> int:
        """Publish a version of the repository that this one mirrors; it is `locked`.

        Its number may have been used here before, if it is not now: the other gives the numbers.

        Args:
            fill: Writes the version's files into an empty folder.
            version: Its number.
            about: Facts for the history, of the version and of the repository.

        Returns:
            The version.

        Raises:
            CandidateError: What was written is incomplete, or not as it was exported.
            FolderError: The repository cannot be written, or there is such a version.
        """

        def verified(incoming: Path) -> None:
            fill(incoming)
            Candidate(incoming).verify()

        return self._publish(verified, version, about or {}, reuse=True)

    def reject(self, version: int, reason: Mapping[str, Any]) -> Path:
        """Quarantine a version, with the reason beside its files.

        Returns:
            Where it is now.

        Raises:
            FolderError: The repository cannot be written.
        """
        target = self.path / _REJECTED / str(version)
        happened = history.event("reject", version=version, **reason)
        try:
            target.parent.mkdir(exist_ok=True)
            (self.path / str(version)).rename(target)
            sync_folder(self.path)
            with suppress(OSError):  # a full disk: the quarantine itself counts
                atomic_write(target / _REASON, json.dumps(happened, indent=1) + "\n")
        except OSError as error:
            raise FolderError(f"cannot write to {target}: {error.strerror}") from error
        with suppress(FolderError):
            self.note(happened)
        return target

    def delete(self, version: int) -> None:
        """Delete a version for good; its number is not reused.

        Raises:
            FolderError: The repository cannot be written.
        """
        try:
            self._remember(max(self._used()))
            pruned = tempfile.mkdtemp(dir=self.path, prefix=_PRUNED)
            # Renamed first, so that no server reads a partly deleted version.
            self.folders()[version].rename(os.path.join(pruned, str(version)))  # noqa: PTH118
            sync_folder(self.path)
            shutil.rmtree(pruned)
        except OSError as error:
            raise FolderError(f"cannot write to {self.path}: {error.strerror}") from error
        self.note(history.event("prune", version=version))

    def history(self) -> list[Event]:
        """The events of the versions, oldest first.

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
        """Append an event to the history.

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
        """Hold the repository's lock; the system releases it when the process exits.

        Args:
            waiting: Called before waiting for another holder.

        Raises:
            FolderError: The repository cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FolderError(f"cannot write to {self.path}: {error.strerror or error}") from error
        with locked(self.path / _LOCK, waiting=waiting):
            yield

    def check_writable(self) -> None:
        """Make sure that this user can write to the folder, and to models.config beside it.

        Nothing is left behind, and a folder that does not exist is not made.

        Raises:
            FolderError: This user cannot.
        """
        for folder in (self.path, self.path.parent):
            there = folder.absolute()
            try:
                while not there.exists():
                    there = there.parent
                with tempfile.TemporaryFile(dir=there):
                    pass
            except OSError as error:
                raise FolderError(
                    f"user {os.geteuid()} cannot write to {there}: {error.strerror or error}",
                    hint=_permission_hint(there),
                ) from error

    def locked_if_free(self) -> AbstractContextManager[bool]:
        """Hold the lock if it is free; yields whether it is held now.

        Raises:
            FolderError: The repository cannot be written.
        """
        return locked_if_free(self.path / _LOCK)

    def leftovers(self) -> list[Path]:
        """Folders of a push or a prune that was killed, or is running."""
        return [p for prefix in (_INCOMING, _PRUNED) for p in self.path.glob(f"{prefix}*")]

    def clear_leftovers(self) -> None:
        """Remove what a killed push or prune left; requires the lock, so that none is running."""
        for left in self.leftovers():
            shutil.rmtree(left, ignore_errors=True)

    def _publish(
        self,
        fill: Callable[[Path], None],
        version: int | None,
        about: Mapping[str, Any],
        *,
        reuse: bool,
    ) -> int:
        self.clear_leftovers()
        used = self._used()
        if version is None:
            # The highest ever used plus one: the number of a pruned version must not be reused
            # for another model.
            version = max(used) + 1
        elif version < 1 or version in (self.folders() if reuse else used):
            raise FolderError(
                f"version {version} of {self.path.name} "
                + ("exists already" if version in self.folders() else "was used before"),
                hint=f"the next is {max(used) + 1}, the default; numbers are not reused",
            )
        happened = history.event("publish", version=version, **about)
        with new_folder(self.path / str(version), incoming_prefix=_INCOMING) as incoming:
            fill(incoming)
            _keep_history(incoming, happened)
            _open_to_readers(incoming)
            sync_tree(incoming)
            self._remember(max([version, *used]))
            digest = manifest_digest(incoming)
        sync_folder(self.path)
        self.note({**happened, "manifest_sha256": digest})
        return version

    def _used(self) -> list[int]:
        """Every version number that is or was used, and 0."""
        last = (self.path / _LOCK).read_text().strip()
        recorded = [e["version"] for e in self.history() if isinstance(e.get("version"), int)]
        return [
            0, *self.folders(), *self.rejected(), *recorded, int(last) if last.isdigit() else 0
        ]  # fmt: skip

    def _remember(self, version: int) -> None:
        """Keep the highest number that was ever used."""
        # Overwritten in place by one call: the file is never shorter, and never empty.
        handle = os.open(self.path / _LOCK, os.O_WRONLY)
        try:
            os.pwrite(handle, f"{version}\n".encode(), 0)
            os.fsync(handle)
        finally:
            os.close(handle)


def _keep_history(folder: Path, happened: Event) -> None:
    """Add an event to the history in a version's own manifest, before it is published."""
    path = folder / MANIFEST
    manifest = parse_json(path.read_text())
    manifest["history"] = [*manifest.get("history", ()), happened]
    atomic_write(path, json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")


def _open_to_readers(folder: Path) -> None:
    """Let servers of other users read a version, regardless of the umask of the push."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _permission_hint(folder: Path) -> str:
    """Whose folder it is, and how to be that user."""
    hint = "name another folder with --repository"
    with suppress(OSError):
        found = folder.stat()
        hint = (
            f"it belongs to user {found.st_uid}: for Docker Compose set "
            f"SERVABLE_UID={found.st_uid} and SERVABLE_GID={found.st_gid} in .env, or {hint}"
        )
    return hint
