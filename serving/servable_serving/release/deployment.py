"""Moving labels: what servers load, and what `stable` and `canary` stand for.

In two phases, so that no request meets a label without a version: a version is listed in
models.config and waited for, and only then labelled. What lost its label stays loaded until
clients that go by its number have followed, the previous `stable` for as long as it is that.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from servable_client import ServableError
from servable_serving.core.names import STABLE
from servable_serving.release.fleet import ReleaseError
from servable_serving.repository import history
from servable_serving.repository.models_config import ModelsConfig, check_labels, set_versions
from servable_serving.repository.traffic import write_traffic

if TYPE_CHECKING:
    from collections.abc import Sequence

    from servable_client import VersionStatus
    from servable_serving.release.fleet import Live
    from servable_serving.repository.history import Event
    from servable_serving.repository.local import Repository

# Over REST the SDK goes by the number that a label stood for up to a second ago.
_FOLLOW_SECONDS = 3.0
# A server that gives no sign of reading models.config is not waited for longer.
_SIGN_SECONDS = 15.0


@dataclass(frozen=True, kw_only=True)
class Labels:
    """The labels of a model's versions, in its repository and at the servers that watch it.

    Args:
        model: The model's name.
        repository: Its versions.
        live: The servers; None to wait for none.
        timeout: Seconds to wait for what a server is to do.
    """

    model: str
    repository: Repository
    live: Live | None = None
    timeout: float = 120.0

    @property
    def config(self) -> ModelsConfig:
        """The file that holds them."""
        return ModelsConfig(self.repository.path.parent)

    def now(self) -> dict[str, int]:
        """What each label stands for.

        Raises:
            ModelsConfigError: models.config cannot be read.
        """
        return self.config.labels(self.model)

    def listed(self) -> set[int]:
        """What servers load.

        Raises:
            ModelsConfigError: models.config cannot be read.
        """
        return self.config.listed(self.model, self.repository.path)

    def served(self) -> int | None:
        """What `stable` stands for, else the highest version; None where there is none."""
        there = self.repository.versions()
        stable = self.now().get(STABLE)
        return stable if stable in there else max(there, default=None)

    def check(self, *, moving: str = "") -> None:
        """Make sure that servers can apply models.config as it is.

        Raises:
            ModelsConfigError: They cannot.
        """
        check_labels(self.config, self.model, self.repository.path, moving=moving)

    def bring(self, version: int) -> str:
        """Have a version loaded, and wait until every server that answers serves it.

        Returns:
            What came of it, in words.

        Raises:
            ReleaseError: It failed to load, or did not in time; what is loaded is as before.
        """
        before: list[dict[int, VersionStatus]] = []
        if self.live is not None:
            before = self.live.states()
        listed = self.listed()
        follows = self._follows()
        try:
            with self.config.change(self.model, self.repository.path) as entry:
                set_versions(entry, {*entry.model_version_policy.specific.versions, version})
            if self.live is None:
                return "nothing was waited for"
            self._hurry(follows)
            self.live.wait_for(version, timeout=self.timeout, before=before)
        except BaseException:
            if version not in listed:
                self.withdraw(version)
            raise
        return f"version {version} is AVAILABLE at {self.live.server}"

    def withdraw(self, version: int) -> None:
        """Have a version loaded no more; no label stands for it.

        Raises:
            FolderError: models.config cannot be written.
        """
        if version in self.now().values():
            self._traffic()
        with self.config.change(self.model, self.repository.path) as entry:
            for label in [k for k, v in entry.version_labels.items() if v == version]:
                del entry.version_labels[label]
            set_versions(entry, {*entry.model_version_policy.specific.versions} - {version})
        with suppress(ServableError):  # a server that is away looks at the file when it is back
            self._hurry(self._follows())

    def move(self, label: str, version: int, *, what: str) -> str:
        """Have a label stand for a version that is loaded, and wait until it does.

        Args:
            label: The label.
            version: What it is to stand for.
            what: What the history calls it: "push", "promote" or "rollback".

        Returns:
            What came of it, in words.

        Raises:
            ReleaseError: No server took it in time; the label is where it was.
        """
        live = self.live
        follows = self._follows()
        before = self._write(label, version)
        try:
            self._hurry(follows)
            if live is not None and follows is not False:
                live.wait_for_label(
                    label,
                    version,
                    timeout=self.timeout if follows else min(self.timeout, _SIGN_SECONDS),
                    hurry=lambda: self._hurry(follows),
                )
        except ReleaseError:
            if follows is not None:
                self._write(label, before, was=version)
                raise
            follows = False
        except BaseException:
            self._write(label, before, was=version)
            raise
        if before != version:
            self.repository.note(history.event(what, label=label, version=version, before=before))
        said = f"{label} is version {version}"
        if before not in (None, version):
            said += f", and was {before}"
        self._traffic()
        if live is not None and follows is False:
            said += f" in {self.config.path}, which the server at {live.server} does not read"
        return said

    def adopt(self, version: int) -> None:
        """Call a version `stable` where none is: it is what is served now.

        Raises:
            FolderError: models.config cannot be written.
        """
        with self.config.change(self.model, self.repository.path) as entry:
            if STABLE in entry.version_labels:
                return
            entry.version_labels[STABLE] = version
            set_versions(entry, {*entry.model_version_policy.specific.versions, version})
        self.repository.note(history.event("adopt", label=STABLE, version=version, before=None))

    def drop(self) -> None:
        """Have servers load no more what no label needs: it is not the previous `stable` either.

        The repository is locked: else this might be a version that a push waits for.

        Raises:
            FolderError: models.config cannot be written.
        """
        events = self.repository.history()
        idle = self._idle(events)
        if not idle:
            return
        lost = history.lost_label_at(events)
        if last := max((lost[v] for v in idle if v in lost), default=None):
            age = (datetime.now(UTC) - last).total_seconds()
            time.sleep(min(max(_FOLLOW_SECONDS - age, 0.0), _FOLLOW_SECONDS))
        with self.config.change(self.model, self.repository.path) as entry:
            # What got a label meanwhile stays.
            labelled = set(entry.version_labels.values())
            idle -= labelled
            set_versions(entry, set(entry.model_version_policy.specific.versions) - idle)
        with suppress(ServableError):
            self._hurry(self._follows())

    def _follows(self) -> bool | None:
        """Whether the servers read models.config, by the labels that they know."""
        return None if self.live is None else self.live.follows(self.now())

    def _traffic(self) -> None:
        """Have the gateway send what asks for no label to `stable`, and know the versions.

        A share of `canary` was meant for another version than it stands for now.
        """
        shares = {label: 0.0 for label in self.now() if label != STABLE}
        # The gateway goes by the labels, which have moved: that is not to fail for its file.
        with suppress(ServableError):
            write_traffic(self.config.root, {self.model: shares})

    def _hurry(self, follows: bool | None) -> None:
        # Only those that read it: another server would be told of folders that it may not have.
        if self.live is not None and follows:
            self.live.hurry(self.config.text())

    def _idle(self, events: Sequence[Event]) -> set[int]:
        labels = self.now()
        previous = history.last_other(events, labels.get(STABLE))
        return self.listed() - {*labels.values(), previous}

    def _write(self, label: str, version: int | None, *, was: int | None = None) -> int | None:
        """Write what a label stands for; what it stood for before.

        With `was`, only where it still stands for that: somebody else may have moved it.
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
