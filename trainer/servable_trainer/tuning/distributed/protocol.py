"""Names of the gRPC service that connects workers to their chief."""

from __future__ import annotations

SERVICE = "servable.Tuning"
NAME, TOKEN = "servable-worker", "servable-token"
