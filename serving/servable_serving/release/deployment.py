"""The deployment of a model: which versions servers load, and its labels.

In two phases, so that no request uses a label without a version: a version is listed in
models.config and waited for, and only then labelled. A version that lost its label stays loaded
until clients that address it by number have followed, and the previous `stable` for as long as it
is that.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from servable_client import ServableError
from servable_serving.core.names import STABLE
from servable_serving.core.signals import uninterrupted
from servable_serving.release.server_group import ReleaseError
from servable_serving.repository import history
from servable_serving.repository.models_config import ModelsConfig, check_labels, set_versions
from servable_serving.repository.traffic import write_traffic

if TYPE_CHECKING:
    from collections.abc import Sequence

    from servable_client import VersionStatus
    from servable_serving.release.server_group import Servers
    from servable_serving.repository.history import Event
    from servable_serving.repository.local import Repository

# Over REST the client caches the version of a label for up to a second.
_FOLLOW_SECONDS = 3.0
# Wait no longer for a server that does not seem to read models.config.
_SIGN_SECONDS = 15.0


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """A model's versions in its repository, and at the servers that read it.

    Args:
        model: The model's name.
        repository: Its versions.
        servers: The servers; None to wait for none.
        timeout: Seconds to wait for each step of a server.
    """

    model: str
    repository: Repository
    servers: Servers | None = None
    timeout: float = 120.0

    @property
    def config(self) -> ModelsConfig:
        """The models.config of the repository."""
        return ModelsConfig(self.repository.path.parent)

    def labels(self) -> dict[str, int]:
        """The version of each label.

        Raises:
            ModelsConfigError: models.config cannot be read.
        """
        return self.config.labels(self.model)

    def listed(self) -> set[int]:
        """The versions that servers load.

        Raises:
            ModelsConfigError: models.config cannot be read.
        """
        return self.config.listed(self.model, self.repository.path)

    def served(self) -> int | None:
        """The version of `stable`, else the highest; None if there is none."""
        there = self.repository.versions()
        stable = self.labels().get(STABLE)
        return stable if stable in there else max(there, default=None)

    def check(self, *, moving: str = "") -> None:
        """Make sure that servers can apply models.config as it is.

        Args:
            moving: A label that is about to be moved, and may point to a missing version.

        Raises:
            ModelsConfigError: They cannot.
        """
        check_labels(self.config, self.model, self.repository.path, moving=moving)

    def load(self, version: int) -> str:
        """Load a version, and wait until every server that answers serves it.

        Returns:
            The outcome, in words.

        Raises:
            ReleaseError: It failed to load, or did not in time; the listed versions are as before.
        """
        before: list[dict[int, VersionStatus]] = []
        if self.servers is not None:
            before = self.servers.states()
        listed = self.listed()
        watched = self._watched()
        try:
            with self.config.change(self.model, self.repository.path) as entry:
                set_versions(entry, {*entry.model_version_policy.specific.versions, version})
            if self.servers is None:
                return "listed; no server was waited for"
            self._request_reload(watched)
            self.servers.wait_for(version, timeout=self.timeout, before=before)
        except BaseException:
            if version not in listed:
                with uninterrupted():
                    self.unload(version)
            raise
        return f"version {version} is AVAILABLE at {self.servers.address}"

    def unload(self, version: int) -> None:
        """Unload a version, and remove its labels.

        Raises:
            FolderError: models.config cannot be written.
        """
        if version in self.labels().values():
            self._reset_traffic()
        with self.config.change(self.model, self.repository.path) as entry:
            for label in [k for k, v in entry.version_labels.items() if v == version]:
                del entry.version_labels[label]
            set_versions(entry, {*entry.model_version_policy.specific.versions} - {version})
        with suppress(ServableError):  # a server that is down reads the file when it is back
            self._request_reload(self._watched())

    def withdraw(self) -> None:
        """Unload all versions of the model, and remove its entry.

        Raises:
            FolderError: models.config cannot be written.
        """
        watched = self._watched()
        self.config.remove(self.model)
        with suppress(ServableError):  # a server that is down reads the file when it is back
            self._request_reload(watched)

    def set_label(self, label: str, version: int, *, what: str, why: str | None = None) -> str:
        """Point a label to a version that is loaded, and wait until servers have applied it.

        Args:
            label: The label.
            version: The version.
            what: The name of the event in the history: "push", "promote" or "rollback".
            why: The reason, for the history.

        Returns:
            The outcome, in words.

        Raises:
            ReleaseError: The servers did not apply it in time; the label has not moved.
        """
        servers = self.servers
        watched = self._watched()
        before = self._write(label, version)
        try:
            self._request_reload(watched)
            if servers is not None and watched is not False:
                servers.wait_for_label(
                    label,
                    version,
                    timeout=self.timeout if watched else min(self.timeout, _SIGN_SECONDS),
                    reload=lambda: self._request_reload(watched),
                )
        except ReleaseError:
            if watched is not None:
                self._write(label, before, was=version)
                raise
            watched = False
        except BaseException:
            with uninterrupted():
                self._write(label, before, was=version)
            raise
        if before != version:
            self.repository.note(history.moved(what, label, version, before, why))
        said = f"{label} is version {version}"
        if before not in (None, version):
            said += f", and was {before}"
        self._reset_traffic()
        if servers is not None and watched is False:
            said += f" in {self.config.path}, which the server at {servers.address} does not read"
        return said

    def adopt_current_as_stable(self, version: int) -> None:
        """Label the version that is served now `stable`, if no version is.

        Raises:
            FolderError: models.config cannot be written.
        """
        with self.config.change(self.model, self.repository.path) as entry:
            if STABLE in entry.version_labels:
                return
            entry.version_labels[STABLE] = version
            set_versions(entry, {*entry.model_version_policy.specific.versions, version})
        self.repository.note(history.event("adopt", label=STABLE, version=version, before=None))

    def unload_unlabelled(self) -> None:
        """Unload the versions that have no label and are not the previous `stable`.

        Without servers the newest one stays, too.

        The repository is locked: else one of them might be a version that a push waits for.

        Raises:
            FolderError: models.config cannot be written.
        """
        events = self.repository.history()
        unneeded = self._unneeded(events)
        if not unneeded:
            return
        lost = history.lost_label_at(events)
        if last := max((lost[v] for v in unneeded if v in lost), default=None):
            age = (datetime.now(UTC) - last).total_seconds()
            time.sleep(min(max(_FOLLOW_SECONDS - age, 0.0), _FOLLOW_SECONDS))
        with self.config.change(self.model, self.repository.path) as entry:
            # A version may have got a label meanwhile.
            unneeded -= set(entry.version_labels.values())
            set_versions(entry, set(entry.model_version_policy.specific.versions) - unneeded)
        with suppress(ServableError):
            self._request_reload(self._watched())

    def _watched(self) -> bool | None:
        """Whether the servers read models.config; None if that cannot be determined."""
        return None if self.servers is None else self.servers.watches_config(self.labels())

    def _reset_traffic(self) -> None:
        """Make the gateway send requests without a label to `stable`.

        A share of `canary` was meant for its previous version.
        """
        shares = {label: 0.0 for label in self.labels() if label != STABLE}
        # The labels have moved already: an error in the gateway's file must not fail that.
        with suppress(ServableError):
            write_traffic(self.config.root, {self.model: shares})

    def _request_reload(self, watched: bool | None) -> None:
        # Only at servers that read the file: others may not have its folders.
        if self.servers is not None and watched:
            self.servers.request_reload(self.config.text())

    def _unneeded(self, events: Sequence[Event]) -> set[int]:
        labels = self.labels()
        previous = history.last_other(events, labels.get(STABLE))
        listed = self.listed()
        # Its label may have stayed where it is, since no server was waited for.
        newest = max(listed, default=None) if self.servers is None else None
        return listed - {*labels.values(), previous, newest}

    def _write(self, label: str, version: int | None, *, was: int | None = None) -> int | None:
        """Write the version of a label; returns the one before.

        With `was`, only if it still points to that: another process may have moved it.
        """
        with self.config.change(self.model, self.repository.path) as entry:
            before = entry.version_labels.get(label)
            if was is not None and before != was:
                return before
            if version is None and before is not None:
                entry.version_labels.pop(label)
            elif version is not None:
                entry.version_labels[label] = version
        return before
