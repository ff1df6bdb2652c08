"""Names of the gRPC service between a chief and its workers."""

from __future__ import annotations

SERVICE = "servable.Tuning"
NAME, TOKEN = "servable-worker", "servable-token"
