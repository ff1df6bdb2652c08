"""A repository's versions: list them, verify them, prune them."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from servable_client import ServableError
from servable_serving.core.errors import FolderError
from servable_serving.core.files import folder_size
from servable_serving.core.json_text import parse_json
from servable_serving.repository.candidate import Candidate
from servable_serving.repository.history import HISTORY, Event
from servable_serving.repository.manifest import CandidateError, manifest_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from servable_serving.release.deployment import Deployment
    from servable_serving.repository.local import Repository

REJECTED = "rejected"
LISTED, UNLISTED = "listed", "not listed"
_NOT_LOADED = "not loaded"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A version.

    Attributes:
        version: Its number.
        state: Its state at the servers; without one, whether models.config lists it.
        labels: Its labels.
        accuracy: The test accuracy in its manifest, None if there is none.
        size: Bytes of all its files.
        created: When it was exported.
        git: The revision that it was exported at.
        pushed: When it was pushed.
        by: Who pushed it.
        reason: Why it was quarantined; None if it was not.
    """

    version: int
    state: str
    labels: Sequence[str]
    accuracy: float | None
    size: int
    created: str | None
    git: str | None
    pushed: str | None
    by: str | None
    reason: str | None


@dataclass(frozen=True, kw_only=True)
class Checked:
    """The result of a check.

    Attributes:
        what: A version's folder, or a file.
        trouble: What is wrong with it, or None.
    """

    what: str
    trouble: str | None


class Inventory(Protocol):
    """The versions of a model, in a folder or behind a URL."""

    @property
    def location(self) -> str:
        """Where they are."""

    def versions(self) -> list[Entry]:
        """The versions, highest first."""

    def verify(self) -> list[Checked]:
        """Compare every file with its checksum, and models.config with the versions."""

    def prune(self, *, keep: int) -> list[int]:
        """Delete old versions for good; returns them, lowest first."""

    def numbers(self) -> list[int]:
        """The numbers of the versions, lowest first."""

    def events(self) -> list[Event]:
        """The history of the versions, oldest first."""

    def folder(self, version: int) -> AbstractContextManager[Path]:
        """A folder with the files of a version."""


@dataclass(frozen=True)
class FolderInventory:
    """The versions of a model in a folder.

    Args:
        deployment: The model there.
    """

    deployment: Deployment

    @property
    def location(self) -> str:
        """The folder."""
        return str(self.deployment.repository.path)

    def versions(self) -> list[Entry]:
        """See `versions`."""
        return versions(self.deployment)

    def verify(self) -> list[Checked]:
        """See `verify`."""
        return verify(self.deployment)

    def prune(self, *, keep: int) -> list[int]:
        """See `prune`; the servers must answer.

        Raises:
            NoAnswer: There are servers, and none answers.
        """
        if self.deployment.servers is not None:
            self.deployment.servers.check()
        return prune(self.deployment, keep=keep)

    def numbers(self) -> list[int]:
        """The numbers of the versions, lowest first."""
        return list(self.deployment.repository.versions())

    def events(self) -> list[Event]:
        """The history of the versions, oldest first.

        Raises:
            FolderError: It cannot be read.
        """
        return self.deployment.repository.history()

    @contextmanager
    def folder(self, version: int) -> Iterator[Path]:
        """The folder of a version.

        Raises:
            FolderError: There is none.
        """
        found = self.deployment.repository.folders().get(version)
        if found is None or not found.is_dir():
            raise FolderError(
                f"there is no version {version} in {self.location}",
                hint="`servable versions` shows them",
            )
        yield found


def versions(deployment: Deployment) -> list[Entry]:
    """The versions of a repository, highest first, including the quarantined ones.

    Raises:
        NoAnswer: There are servers, and none answers.
        ServableError: The repository or models.config cannot be read.
    """
    repository = deployment.repository
    carried = deployment.labels()
    listed = deployment.listed()
    states = None if deployment.servers is None else deployment.servers.states()
    pushes = _pushes(repository)
    entries, folders = [], repository.folders()
    for version, folder in folders.items():
        if states is None:
            state = LISTED if version in listed else UNLISTED
        else:
            found = [s[version].state if version in s else _NOT_LOADED for s in states]
            state = ", ".join(dict.fromkeys(found))
        entries.append(
            _entry(version, folder, state, [k for k, v in carried.items() if v == version], pushes)
        )
    for version, folder in repository.rejected().items():
        if version not in folders:
            entries.append(_entry(version, folder, REJECTED, [], pushes))
    return sorted(entries, key=lambda entry: -entry.version)


def verify(deployment: Deployment) -> list[Checked]:
    """Compare every file with its checksum, and models.config with the versions.

    Raises:
        FolderError: The repository cannot be read.
    """
    repository = deployment.repository
    pushes = _pushes(repository)
    found = [
        Checked(
            what=str(folder),
            trouble=_trouble(folder, pushes.get(version, {}).get("manifest_sha256")),
        )
        for version, folder in sorted(repository.folders().items())
    ]
    found += [
        Checked(what=str(left), trouble="was left by a push or prune that was killed, or is "
                "running; the next one removes it")
        for left in repository.leftovers()
    ]  # fmt: skip
    try:
        deployment.check()
        missing = deployment.listed() - set(repository.versions())
    except ServableError as error:
        found.append(Checked(what=str(deployment.config.path), trouble=str(error)))
    else:
        listed = ", ".join(map(str, sorted(missing)))
        found.append(
            Checked(
                what=str(deployment.config.path),
                trouble=f"lists {listed}, which does not exist" if missing else None,
            )
        )
    return found


def prune(deployment: Deployment, *, keep: int) -> list[int]:
    """Delete old versions for good.

    Never one that has a label, that servers load or serve, or that is among the highest `keep`.

    Args:
        deployment: The model's deployment.
        keep: The number of the highest versions to keep.

    Returns:
        The deleted versions, lowest first.

    Raises:
        FolderError: The repository cannot be written.
        ServableError: models.config is needed and cannot be read.
    """
    repository = deployment.repository
    with repository.locked():
        repository.clear_leftovers()
        deployment.unload_unlabelled()
        gone = []
        for version in _prunable(deployment, keep):
            # Under the lock of models.config, so that no server begins to load it.
            with deployment.config.change(deployment.model, repository.path) as entry:
                if version in entry.model_version_policy.specific.versions:
                    continue
                if version in entry.version_labels.values():
                    continue
                repository.delete(version)
            gone.append(version)
    return gone


def _prunable(deployment: Deployment, keep: int) -> list[int]:
    needed = deployment.config.in_use(deployment.repository.path)
    if deployment.servers is not None:
        for states in deployment.servers.states():
            needed |= {v for v, status in states.items() if status.state != "END"}
    there = deployment.repository.versions()
    return [version for version in there[: max(len(there) - keep, 0)] if version not in needed]


def _pushes(repository: Repository) -> dict[int, Event]:
    """The event that published each version."""
    return {
        e["version"]: e
        for e in repository.history()
        if e["what"] == "publish" and isinstance(e.get("version"), int)
    }


def _entry(
    version: int, folder: Path, state: str, carried: list[str], pushes: dict[int, Any]
) -> Entry:
    manifest = manifest_of(folder)
    noted = [e for e in manifest.get("history", ()) if e.get("version") == version]
    pushed: dict[str, Any] = pushes.get(version) or next(iter(noted), {})
    try:
        reason = parse_json((folder / "reason.json").read_text())["reason"]
    except (OSError, ValueError, KeyError, TypeError):
        reason = None
    return Entry(
        version=version,
        state=state,
        labels=carried,
        accuracy=accuracy_of(manifest),
        size=folder_size(folder),
        created=manifest.get("created"),
        git=manifest.get("git_revision"),
        pushed=pushed.get("when"),
        by=pushed.get("who"),
        reason=reason,
    )


def accuracy_of(manifest: Mapping[str, Any]) -> float | None:
    """The test accuracy in a manifest; None if there is none."""
    try:
        return float(manifest["metrics"]["test"]["accuracy"])
    except (KeyError, TypeError, ValueError):
        return None


def _trouble(folder: Path, digest: str | None) -> str | None:
    try:
        candidate = Candidate(folder)
        candidate.verify()
        found = candidate.manifest_sha256
    except CandidateError as error:
        return str(error)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if digest not in (None, found):
        return f"its manifest is not the one that was pushed, according to {HISTORY}"
    return None
