"""Where a trial takes place: a folder that servers read, or a repository that they follow."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

from servable_client import ServableError
from servable_serving.core.names import CANARY, STABLE, shadow_name
from servable_serving.core.signals import uninterrupted
from servable_serving.release.promote import promote
from servable_serving.repository import history
from servable_serving.repository.shadow import write_shadow
from servable_serving.repository.traffic import write_traffic

if TYPE_CHECKING:
    from collections.abc import Mapping

    from servable_serving.release.deployment import Deployment
    from servable_serving.release.server_group import ServerGroup, Servers
    from servable_serving.release.steps import Steps
    from servable_serving.repository.history import Event
    from servable_serving.repository.remote import Remote
    from servable_serving.repository.shadow import Shadow

REPORTS = ".reports"
_LOOK_SECONDS = 0.2


class Site(Protocol):
    """A model's versions, the servers that load them, and the gateway before these."""

    @property
    def model(self) -> str:
        """The model's name at the servers."""

    @property
    def timeout(self) -> float:
        """Seconds to wait for each step of a server."""

    @property
    def location(self) -> str:
        """The folder or URL, for messages."""

    @property
    def reports(self) -> Path:
        """The folder for reports."""

    def has(self, version: int) -> bool:
        """Whether there is a version."""

    def labels(self) -> Mapping[str, int]:
        """The version of each label."""

    def load(self, version: int) -> str:
        """Load a version, and wait until every server that answers serves it; says the outcome."""

    def set_canary(self, version: int) -> str:
        """Label a version `canary`, and wait until servers have applied it; says the outcome."""

    def unload(self, version: int) -> None:
        """Unload a version, and remove its labels."""

    def promote(self, version: int, steps: Steps) -> None:
        """Move `stable` to a version that is loaded."""

    def split(self, shares: Mapping[str, float], *, until: float | None = None) -> None:
        """Set the gateway's shares of the labels, in percent, until a time since 1970."""

    def mirror(self, model: str, shadow: Shadow | None) -> None:
        """Set what the gateway mirrors of the model, by the name that clients know."""

    def note(self, happened: Event) -> None:
        """Add an event to the model's history."""

    def aside(self, servers: ServerGroup) -> Self:
        """The same versions, which servers load as `shadow_name` of the model."""

    def withdraw(self) -> None:
        """Unload all versions of the model, and remove its entry."""

    def wait_until_withdrawn(self) -> str:
        """Wait until no server serves the model; says the outcome."""


@dataclass(frozen=True)
class FolderSite:
    """A folder that servers and the gateway read.

    Args:
        deployment: The model's deployment.
    """

    deployment: Deployment

    @property
    def model(self) -> str:
        """See `Site`."""
        return self.deployment.model

    @property
    def timeout(self) -> float:
        """See `Site`."""
        return self.deployment.timeout

    @property
    def location(self) -> str:
        """See `Site`."""
        return str(self.deployment.repository.path)

    @property
    def reports(self) -> Path:
        """See `Site`."""
        return self.deployment.repository.path / REPORTS

    @property
    def _root(self) -> Path:
        return self.deployment.repository.path.parent

    def has(self, version: int) -> bool:
        """See `Site`."""
        return version in self.deployment.repository.versions()

    def labels(self) -> dict[str, int]:
        """See `Site`."""
        return self.deployment.labels()

    def load(self, version: int) -> str:
        """See `Site`."""
        return self.deployment.load(version)

    def set_canary(self, version: int) -> str:
        """See `Site`."""
        return self.deployment.set_label(CANARY, version, what="canary")

    def unload(self, version: int) -> None:
        """See `Site`."""
        self.deployment.unload(version)

    def promote(self, version: int, steps: Steps) -> None:
        """See `Site`."""
        promote(version, self.deployment, steps)

    def split(self, shares: Mapping[str, float], *, until: float | None = None) -> None:
        """See `Site`."""
        write_traffic(
            self._root, {self.model: shares}, until=None if until is None else {self.model: until}
        )

    def mirror(self, model: str, shadow: Shadow | None) -> None:
        """See `Site`."""
        write_shadow(self._root, model, shadow)

    def note(self, happened: Event) -> None:
        """See `Site`."""
        self.deployment.repository.note(happened)

    def aside(self, servers: ServerGroup) -> Self:
        """See `Site`."""
        name = shadow_name(self.model)
        return replace(self, deployment=replace(self.deployment, model=name, servers=servers))

    def withdraw(self) -> None:
        """See `Site`."""
        self.deployment.withdraw()

    def wait_until_withdrawn(self) -> str:
        """See `Site`."""
        return _wait_until_withdrawn(self.model, self.deployment.servers, self.timeout)


@dataclass(frozen=True, kw_only=True)
class RemoteSite:
    """A repository behind a URL; servers and the gateway follow it by `servable sync`.

    Args:
        remote: The repository.
        folder: The name of its folder with the model's versions.
        servers: The servers; None to wait for none.
        timeout: See `Site`.
        name: The model's name at the servers; the folder's unless given.
    """

    remote: Remote
    folder: str
    servers: ServerGroup | None
    timeout: float
    name: str = ""

    @property
    def model(self) -> str:
        """See `Site`."""
        return self.name or self.folder

    @property
    def location(self) -> str:
        """See `Site`."""
        return f"{self.remote.url}/{self.folder}"

    @property
    def reports(self) -> Path:
        """See `Site`."""
        return Path(REPORTS)

    def has(self, version: int) -> bool:
        """See `Site`."""
        return self.remote.manifest(self.folder, version) is not None

    def labels(self) -> dict[str, int]:
        """See `Site`."""
        return self.remote.labels(self.model)

    def load(self, version: int) -> str:
        """See `Site`."""
        before = [] if self.servers is None else self.servers.states()
        added = self.remote.load(self.model, version, folder=self.folder)
        try:
            if self.servers is None:
                return "listed; no server was waited for"
            self.servers.wait_for(version, timeout=self.timeout, before=before)
        except BaseException:
            if added:
                with uninterrupted():
                    self.unload(version)
            raise
        return f"version {version} is AVAILABLE at {self.servers.address}"

    def set_canary(self, version: int) -> str:
        """See `Site`."""
        before = self.labels().get(CANARY)
        self.remote.label(self.folder, version, CANARY)
        try:
            self._wait_for(CANARY, version)
        except BaseException:
            with uninterrupted():
                if before is None:
                    self.remote.unlabel(self.folder, CANARY)
                else:
                    self.remote.label(self.folder, before, CANARY)
            raise
        if before != version:
            self.note(history.moved("canary", CANARY, version, before, None))
        return f"{CANARY} is version {version}"

    def unload(self, version: int) -> None:
        """See `Site`."""
        self.remote.unload(self.model, version)

    def promote(self, version: int, steps: Steps) -> None:
        """See `Site`."""
        with steps.step("label") as step:
            before = self.labels().get(STABLE)
            self.remote.label(self.folder, version, STABLE, keep_canary=True)
            self.note(history.moved("promote", STABLE, version, before, None))
            self._wait_for(STABLE, version)
            step.said = f"{STABLE} is version {version}"

    def split(self, shares: Mapping[str, float], *, until: float | None = None) -> None:
        """See `Site`."""
        with self.remote.gateway_files() as root:
            write_traffic(
                root, {self.model: shares}, until=None if until is None else {self.model: until}
            )

    def mirror(self, model: str, shadow: Shadow | None) -> None:
        """See `Site`."""
        with self.remote.gateway_files() as root:
            write_shadow(root, model, shadow)

    def note(self, happened: Event) -> None:
        """See `Site`."""
        self.remote.note(self.folder, happened)

    def aside(self, servers: ServerGroup) -> Self:
        """See `Site`."""
        return replace(self, name=shadow_name(self.folder), servers=servers)

    def withdraw(self) -> None:
        """See `Site`."""
        self.remote.withdraw(self.model)

    def wait_until_withdrawn(self) -> str:
        """See `Site`."""
        return _wait_until_withdrawn(self.model, self.servers, self.timeout)

    def _wait_for(self, label: str, version: int) -> None:
        if self.servers is not None:
            self.servers.wait_for_label(label, version, timeout=self.timeout, reload=lambda: None)


def _wait_until_withdrawn(model: str, servers: Servers | None, seconds: float) -> str:
    """Else the next trial could take the version for loaded that is about to be unloaded."""
    if servers is None:
        return "no server was waited for"
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with suppress(ServableError):  # a server that is down serves nothing
            if all(
                status.state == "END" for states in servers.states() for status in states.values()
            ):
                return f"no server serves {model} any more"
        time.sleep(_LOOK_SECONDS)
    return f"{model} is still served at {servers.address} after {seconds:g} s"
