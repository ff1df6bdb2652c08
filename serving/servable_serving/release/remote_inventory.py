"""The versions of a repository behind a URL: list them, verify them, prune them."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from servable_client import ServableError
from servable_serving.release.inventory import LISTED, UNLISTED, Checked, Entry, accuracy_of
from servable_serving.repository import history
from servable_serving.repository.candidate import Candidate
from servable_serving.repository.manifest import CandidateError
from servable_serving.repository.store import MissingFile, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from servable_serving.repository.remote import Remote

INCOMPLETE = "incomplete"


@dataclass(frozen=True)
class RemoteInventory:
    """The versions of a model behind a URL.

    Args:
        remote: The repository.
        model: The model's name.
    """

    remote: Remote
    model: str

    @property
    def location(self) -> str:
        """The URL of the model's folder."""
        return f"{self.remote.url}/{self.model}"

    def versions(self) -> list[Entry]:
        """The versions, highest first; the state is what models.config says.

        Raises:
            StoreError: The repository cannot be read.
            ModelsConfigError: models.config is not valid.
        """
        labels, listed = self.remote.deployed(self.model)
        claims = self.remote.claims(self.model)
        return [
            self._entry(
                version,
                LISTED if version in listed else UNLISTED,
                [label for label, its in labels.items() if its == version],
                claims.get(version, {}),
            )
            for version in reversed(self.remote.numbers(self.model))
        ]

    def verify(self) -> list[Checked]:
        """Download every version, and compare its files with their checksums.

        Raises:
            StoreError: The repository cannot be read, or has no version.
        """
        found, complete = [], set()
        for version in self._there():
            trouble = None
            try:
                with self.folder(version) as folder:
                    complete.add(version)
                    Candidate(folder).verify()
            except (CandidateError, MissingFile) as error:
                trouble = error.message
            found.append(Checked(what=f"{self.location}/{version}", trouble=trouble))
        trouble = None
        try:
            _, listed = self.remote.deployed(self.model)
        except ServableError as error:
            trouble = str(error)
        else:
            if missing := listed - complete:
                numbers = ", ".join(map(str, sorted(missing)))
                trouble = f"lists {numbers}, which does not exist or is incomplete"
        found.append(Checked(what=self.remote.config_url, trouble=trouble))
        return found

    def prune(self, *, keep: int) -> list[int]:
        """Delete old versions for good, and what pushes left that were killed a day ago.

        Never one that models.config lists or labels, or that is among the highest `keep`.

        Args:
            keep: The number of the highest versions to keep.

        Returns:
            The deleted versions, lowest first.

        Raises:
            StoreError: The repository cannot be written, or has no version.
            ModelsConfigError: models.config is not valid.
        """
        there = self._there()
        gone = []
        for version in there[: max(len(there) - keep, 0)]:
            if self.remote.delete(self.model, version):
                gone.append(version)
                self.remote.note(self.model, history.event("prune", version=version))
        return gone

    def numbers(self) -> list[int]:
        """The numbers of the versions, lowest first.

        Raises:
            StoreError: The repository cannot be read.
        """
        return self.remote.numbers(self.model)

    def events(self) -> list[history.Event]:
        """The history of the versions, oldest first.

        Raises:
            StoreError: It cannot be read.
        """
        return self.remote.history(self.model)

    @contextmanager
    def folder(self, version: int) -> Iterator[Path]:
        """A temporary copy of a version.

        Raises:
            StoreError: There is none, or it cannot be read.
            CandidateError: Its manifest is not valid.
        """
        with tempfile.TemporaryDirectory() as folder:
            self.remote.fetch(self.model, version, Path(folder))
            yield Path(folder)

    def _there(self) -> list[int]:
        there = self.remote.numbers(self.model)
        if not there:
            raise StoreError(
                f"{self.remote.url} has no version of {self.model}",
                hint="check --repository and --model",
            )
        return there

    def _entry(self, version: int, state: str, labels: list[str], claim: dict[str, Any]) -> Entry:
        reason, manifest = None, None
        try:
            manifest = self.remote.manifest(self.model, version)
        except CandidateError as error:
            reason = error.message
        if manifest is None:
            state = INCOMPLETE
        manifest = manifest or {}
        return Entry(
            version=version,
            state=state,
            labels=labels,
            accuracy=accuracy_of(manifest),
            size=self.remote.size(self.model, version),
            created=manifest.get("created"),
            git=manifest.get("git_revision"),
            pushed=claim.get("when"),
            by=claim.get("who"),
            reason=reason,
        )
