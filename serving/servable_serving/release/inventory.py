"""What is in a repository: its versions, whether they are as they were pushed, and what may go."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from servable_client import ServableError
from servable_serving.core.files import folder_size
from servable_serving.repository.history import HISTORY, Event
from servable_serving.repository.manifest import (
    CandidateError,
    check_candidate,
    manifest_digest,
    manifest_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from servable_serving.release.deployment import Labels
    from servable_serving.repository.local import Repository

REJECTED = "rejected"
LISTED, UNLISTED = "listed", "not listed"
_NOT_LOADED = "not loaded"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A version, as it is told.

    Attributes:
        version: Its number.
        state: What the servers say of it; without one, whether models.config lists it.
        labels: Those that stand for it.
        accuracy: On the test pictures, by its manifest; None where that does not say.
        size: Of all its files, in bytes.
        created: When it was exported.
        git: The revision that it was exported at.
        pushed: When it was pushed.
        by: Who pushed it.
        reason: Why it was rejected, None where it was not.
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
    """What came of a check.

    Attributes:
        what: What was checked: a version's folder, a file.
        trouble: What is wrong with it, None for nothing.
    """

    what: str
    trouble: str | None


def versions(labels: Labels) -> list[Entry]:
    """The versions in a repository, highest first, those that were rejected among them.

    Raises:
        NoAnswer: A server was to be asked, and none answers.
        ServableError: The repository or models.config cannot be read.
    """
    repository = labels.repository
    carried = labels.now()
    listed = labels.listed()
    states = None if labels.live is None else labels.live.states()
    pushes = _pushes(repository)
    entries, folders = [], repository.folders()
    for version, folder in folders.items():
        if states is None:
            state = LISTED if version in listed else UNLISTED
        else:
            told = [s[version].state if version in s else _NOT_LOADED for s in states]
            state = ", ".join(dict.fromkeys(told))
        entries.append(
            _entry(version, folder, state, [k for k, v in carried.items() if v == version], pushes)
        )
    for version, folder in repository.rejected().items():
        if version not in folders:
            entries.append(_entry(version, folder, REJECTED, [], pushes))
    return sorted(entries, key=lambda entry: -entry.version)


def verify(labels: Labels) -> list[Checked]:
    """Hold every file in a repository against its checksum, and models.config against them.

    Raises:
        FolderError: The repository cannot be read.
    """
    repository = labels.repository
    pushes = _pushes(repository)
    found = [
        Checked(
            what=str(folder),
            trouble=_trouble(folder, pushes.get(version, {}).get("manifest_sha256")),
        )
        for version, folder in sorted(repository.folders().items())
    ]
    found += [
        Checked(what=str(left), trouble="was left by a push or a pruning that was killed, or is "
                "at work; the next push clears it")
        for left in repository.leftovers()
    ]  # fmt: skip
    try:
        labels.check()
        missing = labels.listed() - set(repository.versions())
    except ServableError as error:
        found.append(Checked(what=str(labels.config.path), trouble=str(error)))
    else:
        listed = ", ".join(map(str, sorted(missing)))
        found.append(
            Checked(
                what=str(labels.config.path),
                trouble=f"lists {listed}, and there is no such version" if missing else None,
            )
        )
    return found


def prune(labels: Labels, *, keep: int) -> list[int]:
    """Take old versions away for good.

    Never one that a label stands for, that servers load or answer with, or that is among the
    highest `keep`.

    Args:
        labels: Those of the repository.
        keep: How many to keep in any case.

    Returns:
        What was taken away, lowest first.

    Raises:
        FolderError: The repository cannot be written.
        ServableError: models.config cannot be read: then nobody knows what is needed.
    """
    repository = labels.repository
    with repository.locked():
        labels.drop()
        gone = []
        for version in _idle(labels, keep):
            # No server begins to load it meanwhile: a label is moved under the same lock.
            with labels.config.change(labels.model, repository.path) as entry:
                if version in entry.model_version_policy.specific.versions:
                    continue
                if version in entry.version_labels.values():
                    continue
                repository.delete(version)
            gone.append(version)
    return gone


def _idle(labels: Labels, keep: int) -> list[int]:
    needed = {*labels.listed(), *labels.now().values()}
    if labels.live is not None:
        for states in labels.live.states():
            needed |= {v for v, status in states.items() if status.state != "END"}
    there = labels.repository.versions()
    return [version for version in there[: max(len(there) - keep, 0)] if version not in needed]


def _pushes(repository: Repository) -> dict[int, Event]:
    """What the history says of each version's coming."""
    return {
        e["version"]: e
        for e in repository.history()
        if e["what"] == "publish" and isinstance(e.get("version"), int)
    }


def _entry(
    version: int, folder: Path, state: str, carried: list[str], pushes: dict[int, Any]
) -> Entry:
    manifest = manifest_of(folder)
    told = [e for e in manifest.get("history", ()) if e.get("version") == version]
    pushed: dict[str, Any] = pushes.get(version) or next(iter(told), {})
    try:
        reason = json.loads((folder / "reason.json").read_text())["reason"]
    except (OSError, ValueError, KeyError, TypeError):
        reason = None
    return Entry(
        version=version,
        state=state,
        labels=carried,
        accuracy=_accuracy(manifest),
        size=folder_size(folder),
        created=manifest.get("created"),
        git=manifest.get("git_revision"),
        pushed=pushed.get("when"),
        by=pushed.get("who"),
        reason=reason,
    )


def _accuracy(manifest: dict[str, Any]) -> float | None:
    try:
        return float(manifest["metrics"]["test"]["accuracy"])
    except (KeyError, TypeError, ValueError):
        return None


def _trouble(folder: Path, digest: str | None) -> str | None:
    try:
        check_candidate(folder)
        found = manifest_digest(folder)
    except CandidateError as error:
        return str(error)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if digest not in (None, found):
        return f"its manifest is not the one that was pushed, by {HISTORY}"
    return None
