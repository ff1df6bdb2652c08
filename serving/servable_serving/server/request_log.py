"""What is kept of each request: a count, its time, and perhaps a line in the log."""

from __future__ import annotations

import logging
import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from servable_serving.server.lifecycle.registry import Models
    from servable_serving.server.telemetry import Metrics

_log = logging.getLogger("servable.requests")


@dataclass(kw_only=True)
class Record:
    """A request on its way; whoever learns more of it writes that in."""

    entrypoint: str
    api: str = ""
    model: str = ""
    version: int | None = None
    code: str = "OK"
    began: float = field(default_factory=time.perf_counter)


class Requests:
    """Keeps the records of requests that have been answered.

    Args:
        models: The models there are; names of others are not kept.
        metrics: Where they are counted.
        log_rate: The share of them that gets a line in the log, 0 to 1.
    """

    def __init__(self, models: Models, metrics: Metrics, *, log_rate: float = 0.0) -> None:
        self._models, self._metrics, self._log_rate = models, metrics, log_rate

    def keep(self, record: Record) -> None:
        """Keep what is known of a request that has been answered."""
        seconds = time.perf_counter() - record.began
        # Any name may be asked for, and each that is counted stays in memory for good.
        model = record.model if self._models.knows(record.model) else ""
        if record.api:
            self._metrics.answered(model, record.api, record.entrypoint, record.code, seconds)
        if self._log_rate and random.random() < self._log_rate:
            _log.info(
                "%s %s %s %s %s %.2f ms",
                record.entrypoint, record.api or "-", record.model or "-",
                record.version or "-", record.code, seconds * 1000,
                extra={"event": "request", "entrypoint": record.entrypoint, "api": record.api,
                       "model": record.model, "version": record.version, "code": record.code,
                       "milliseconds": round(seconds * 1000, 3)},
            )  # fmt: skip
