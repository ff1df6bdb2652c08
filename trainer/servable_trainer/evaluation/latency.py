"""How long a classifier takes to answer."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from servable_trainer.data.dataset import Pictures
    from servable_trainer.evaluation.evaluated_model import EvaluatedModel

BATCHES = (1, 32)
_WARM_UP = 10
# A 99th percentile needs some hundred calls; a slow network must not take minutes over them.
_CALLS, _SECONDS = 500, 5.0


@dataclass(frozen=True, kw_only=True)
class Latency:
    """How long calls took, one after the other.

    Attributes:
        batch: Pictures in a call.
        calls: How many were measured.
        median_ms: Half of them took no longer, in milliseconds.
        p99_ms: 99 % of them took no longer.
        cpu_ms: Processor time a call, of this process, all its threads; of an endpoint that is
            the client's share alone.
    """

    batch: int
    calls: int
    median_ms: float
    p99_ms: float
    cpu_ms: float


def latency(subject: EvaluatedModel, pictures: Pictures, *, batch: int) -> Latency:
    """Ask `subject` about `batch` pictures at a time: 500 calls, or 5 seconds where that is less.

    Other pictures each time; where there are too few, they come round again.
    """
    images = pictures.images
    if len(images) < batch:
        images = np.resize(images, (batch, *images.shape[1:]))
    batches = [images[i : i + batch] for i in range(0, len(images) - batch + 1, batch)]
    for index in range(_WARM_UP):
        subject.probabilities(batches[index % len(batches)])
    seconds: list[float] = []
    cpu, began = time.process_time(), time.perf_counter()
    before = began
    while len(seconds) < _CALLS and before - began < _SECONDS:
        subject.probabilities(batches[len(seconds) % len(batches)])
        now = time.perf_counter()
        seconds.append(now - before)
        before = now
    cpu = time.process_time() - cpu
    median, p99 = np.percentile(seconds, (50, 99)) * 1000
    return Latency(
        batch=batch,
        calls=len(seconds),
        median_ms=float(median),
        p99_ms=float(p99),
        cpu_ms=cpu / len(seconds) * 1000,
    )
