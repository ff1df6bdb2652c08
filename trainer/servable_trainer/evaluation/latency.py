"""Latency of a classifier."""

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
# A 99th percentile needs some hundred calls; a slow network must not take minutes for them.
_CALLS, _SECONDS = 500, 5.0


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Latency of sequential calls.

    Attributes:
        batch: Images per call.
        calls: Number of calls measured.
        median_ms: Median, in milliseconds.
        p99_ms: 99th percentile, in milliseconds.
        cpu_ms: Processor time per call of this process, all threads; for an endpoint that is only
            the client's share.
    """

    batch: int
    calls: int
    median_ms: float
    p99_ms: float
    cpu_ms: float


def latency(subject: EvaluatedModel, pictures: Pictures, *, batch: int) -> Latency:
    """Measure calls of `batch` images: 500 of them, or as many as fit in 5 seconds.

    Each call has other images; if there are too few, they are repeated.
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
