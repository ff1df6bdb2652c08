"""Reloads nginx when servers, certificate, keys or traffic shares change."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from servable_serving.gateway import traffic as splitting
from servable_serving.gateway.keys import KeysError
from servable_serving.gateway.nginx import ConfigurationRejected, render
from servable_serving.repository.shadow import ShadowError, read_shadows
from servable_serving.repository.traffic import (
    NAME,
    TrafficError,
    read_deadlines,
    read_traffic,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from servable_serving.gateway.keys import KeyStore
    from servable_serving.gateway.settings import Settings
    from servable_serving.gateway.traffic import Traffic
    from servable_serving.repository.shadow import Shadow

logger = logging.getLogger("servable.gateway")

# Without gateway-metrics its name does not resolve, and some name servers are slow to answer.
_METRICS_EVERY = 10
_METRICS_SECONDS = 1.0
_SERVER_SECONDS = 5.0

# The identity of a file's content: inode, size, modification time; None if it is missing.
Mark = tuple[int, int, int] | None


class Resolver(Protocol):
    """Resolves host names."""

    def __call__(self, names: Iterable[str], seconds: float, /) -> tuple[str, ...]:
        """The addresses of names, with a timeout in seconds for each lookup."""


class Proxy(Protocol):
    """The configuration of nginx."""

    def install(self, configuration: str) -> None:
        """Put a configuration in force at the next reload, or raise ConfigurationRejected."""

    def reload(self) -> None:
        """Make it reload its configuration."""


@dataclass(frozen=True)
class Observed:
    """Everything whose change requires a reload."""

    addresses: tuple[str, ...]
    metrics_address: str | None
    files: tuple[Mark, ...]
    ended: frozenset[str]
    mirrored: tuple[tuple[str, Shadow], ...]


class Reconciler:
    """Checks for changes, and reloads nginx.

    Args:
        settings: The gateway's.
        keys: The API keys.
        proxy: nginx.
        resolve: Looks names up.
        clock: Seconds since 1970.

    Attributes:
        addresses: The servers' that are known.
        metrics_address: Of `servable gateway-metrics`, where its name is known.
        traffic: The routes in force.
    """

    def __init__(
        self,
        settings: Settings,
        keys: KeyStore,
        proxy: Proxy,
        *,
        resolve: Resolver,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings, self._keys, self._proxy = settings, keys, proxy
        self._resolve, self._clock = resolve, clock
        self.addresses: tuple[str, ...] = ()
        self.metrics_address: str | None = None
        self.traffic: Traffic = {}
        self._next_traffic: Traffic = {}
        self._shadow_error = ""
        self._looks = 0
        self._seen: Observed | None = None
        self._watched = [
            path
            for path in (
                settings.certificate,
                settings.certificate_key,
                settings.api_keys_file,
                settings.admin_keys_file,
                settings.models_root / NAME,
            )
            if path is not None
        ]

    def start(self) -> None:
        """Install the first configuration.

        Raises:
            ConfigurationRejected: nginx does not accept it.
        """
        self._seen = self._look()
        self._read_traffic()
        self._install()
        self.traffic = self._next_traffic

    def step(self) -> bool:
        """Check once; whether nginx was reloaded."""
        found = self._look()
        if found == self._seen:
            return False
        self._seen = found
        try:
            self._keys.reload()
        except KeysError as error:
            logger.error("%s", error)  # noqa: TRY400 - no traceback: it is the user's file
        self._read_traffic()
        try:
            self._install()
        except ConfigurationRejected as error:
            logger.error("nginx rejected the new configuration: %s", error)  # noqa: TRY400
            return False
        self._proxy.reload()
        self.traffic = self._next_traffic
        logger.info("reloaded; servers: %s", " ".join(self.addresses) or "none")
        return True

    def _look(self) -> Observed:
        # A failed lookup removes no server.
        self.addresses = (
            self._resolve(self._settings.upstream, _SERVER_SECONDS) or self.addresses
        )  # fmt: skip
        target = self._settings.metrics_syslog
        if target is not None and self._looks % _METRICS_EVERY == 0:
            found = self._resolve((target[0],), _METRICS_SECONDS)
            if found:
                self.metrics_address = found[0]
        self._looks += 1
        return Observed(
            self.addresses,
            self.metrics_address,
            tuple(map(mark, self._watched)),
            self._ended(),
            tuple(sorted(self._mirrored().items())),
        )

    def _ended(self) -> frozenset[str]:
        """The models whose canary trial is past its end, its command having died."""
        now = self._clock()
        deadlines = read_deadlines(self._settings.models_root)
        return frozenset(model for model, until in deadlines.items() if now > until)

    def _mirrored(self) -> dict[str, Shadow]:
        """What is mirrored now."""
        now = self._clock()
        found, trouble = {}, ""
        try:
            found = read_shadows(self._settings.models_root)
        except ShadowError as error:
            trouble = str(error)
        if trouble and trouble != self._shadow_error:
            logger.error("%s; nothing is mirrored", trouble)
        self._shadow_error = trouble
        return {model: one for model, one in found.items() if now <= one.until}

    def _read_traffic(self) -> None:
        try:
            found = read_traffic(self._settings.models_root)
            splitting.check(found)
        except TrafficError as error:
            logger.error("%s; the traffic shares are unchanged", error)  # noqa: TRY400
            return
        self._next_traffic = found

    def _install(self) -> None:
        ended = self._seen.ended if self._seen is not None else frozenset[str]()
        for model in ended & self._next_traffic.keys():
            label = splitting.largest(self._next_traffic[model]).label
            logger.warning("the canary of %s has run out of time: all traffic to %s", model, label)
        self._proxy.install(
            render(
                self._settings,
                keys=self._keys.current,
                addresses=self.addresses,
                metrics_address=self.metrics_address,
                traffic=self._next_traffic,
                shadows=dict(self._seen.mirrored) if self._seen is not None else {},
                ended=ended,
                as_root=os.geteuid() == 0,
            )
        )


def mark(path: Path) -> Mark:
    """The identity of a file's content; a different one means a change."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
