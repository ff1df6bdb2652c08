"""What `servable sync` tells Prometheus, and whoever asks whether it is alive."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from servable_client import ServableError

if TYPE_CHECKING:
    from servable_serving.repository.sync import Changes


class SyncMetrics:
    """Figures of the looks at a remote repository.

    Any path of the port gives them, `/healthz` too: that the repository is away is no reason to
    end the process, so being answered at all is being alive.

    Args:
        port: Where they are served; 0 for nowhere.
        host: The address.

    Raises:
        ServableError: The port cannot be had.
    """

    def __init__(self, port: int, host: str) -> None:
        self._registry = registry = CollectorRegistry()
        self._looks = Counter(
            "servable_sync_looks", "Looks at the remote repository.", ["outcome"], registry=registry
        )
        self._versions = Counter(
            "servable_sync_versions", "Versions that came or went.", ["change"], registry=registry
        )
        self._success = Gauge(
            "servable_sync_last_success_timestamp_seconds",
            "When this folder was last as the remote repository is.",
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
                    hint="give another --metrics-port",
                ) from error

    def tell(self, found: Changes | ServableError) -> None:
        """Count a look."""
        if isinstance(found, ServableError):
            self._looks.labels("failed").inc()
            return
        self._looks.labels("done").inc()
        self._success.set(time.time())
        self._versions.labels("pulled").inc(len(found.pulled))
        self._versions.labels("deleted").inc(len(found.deleted))
