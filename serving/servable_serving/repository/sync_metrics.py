"""Prometheus metrics and health endpoint of `servable sync`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from servable_client import ServableError

if TYPE_CHECKING:
    from servable_serving.repository.sync import Changes


class SyncMetrics:
    """Metrics of the syncs with a remote repository.

    Every path of the port serves them, `/healthz` too: an unreachable store must not
    restart the process, so any response means that it is alive.

    Args:
        port: Port to listen at; 0 disables the metrics.
        host: Address to listen at.

    Raises:
        ServableError: The port cannot be listened at.
    """

    def __init__(self, port: int, host: str) -> None:
        self._registry = registry = CollectorRegistry()
        self._looks = Counter(
            "servable_sync_looks",
            "Syncs with the remote repository, by outcome.",
            ["outcome"],
            registry=registry,
        )
        self._versions = Counter(
            "servable_sync_versions", "Versions pulled or deleted.", ["change"], registry=registry
        )
        self._success = Gauge(
            "servable_sync_last_success_timestamp_seconds",
            "Time of the last successful sync, as a Unix timestamp.",
            registry=registry,
        )
        for outcome in ("done", "failed"):
            self._looks.labels(outcome)
        if port:
            try:
                start_http_server(port, addr=host, registry=registry)
            except OSError as error:
                raise ServableError(
                    f"cannot listen at {host}:{port}: {error.strerror or error}",
                    hint="choose another port with --metrics-port",
                ) from error

    def tell(self, found: Changes | ServableError) -> None:
        """Count a sync."""
        if isinstance(found, ServableError):
            self._looks.labels("failed").inc()
            return
        self._looks.labels("done").inc()
        self._success.set(time.time())
        self._versions.labels("pulled").inc(len(found.pulled))
        self._versions.labels("deleted").inc(len(found.deleted))
