"""Gates `latency` and `size`: what a candidate costs compared with the served version.

Latency is measured in this process, without a server, and in turns: other load on the machine
affects both alike.
"""

from __future__ import annotations

import statistics
import time
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from servable_client import ServableError
from servable_serving.gates.verdict import Refused, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from servable_serving.gates.holdout import Holdout
    from servable_serving.gates.inspected_version import AnyModel, Classifier
    from servable_serving.model.golden import GoldenRequest

    _Call = Callable[[], object]

# What a latency belongs to: a batch size, or a signature.
_Key = TypeVar("_Key", int, str)

# Calls of each model, by batch size.
_ROUNDS = {1: 60, 32: 20}
_WARM_UP = 5
_NEGLIGIBLE_MS = 0.5
_NEGLIGIBLE_BYTES = 1 << 20
_ATTEMPTS = 3


def compare_latency(
    candidate: Classifier, served: Classifier | None, holdout: Holdout | None, ratio: float
) -> Verdict:
    """Compare a candidate's latency at batch 1 and 32 with the served version's.

    Single measurements on a busy machine are unreliable: a candidate that looks too slow is
    measured twice more, and the best of the three ratios counts.

    Raises:
        Refused: See `judge_latency`.
        ModelError: The candidate cannot be run.
    """
    images = _images(candidate, holdout)
    if served is not None and not _runs(partial(served.run, images[:1])):
        served = None
    versions = [candidate] if served is None else [candidate, served]
    calls = {n: [partial(version.run, images[:n]) for version in versions] for n in _ROUNDS}
    return _judged(calls, _ROUNDS, ratio)


def compare_latency_of_requests(
    candidate: AnyModel, served: AnyModel | None, requests: Sequence[GoldenRequest], ratio: float
) -> Verdict:
    """Compare the latency of requests with the served version's, signature by signature.

    Args:
        candidate: The candidate.
        served: The served version; None to report the candidate's latency only.
        requests: One for each signature that is measured.
        ratio: The maximum latency relative to the served version's.

    Raises:
        Refused: See `judge_latency`.
        ModelError: The candidate cannot be run.
    """
    if not requests:
        return Verdict(outcome="skipped", said="no request is known that the model answers")
    if served is not None:
        # A signature may be new, or take more than before.
        common = [one for one in requests if _runs(partial(served.ask, one.signature, one.inputs))]
        served, requests = (served, common) if common else (None, requests)
    versions = [candidate] if served is None else [candidate, served]
    calls = {
        f"in {one.signature}": [
            partial(version.ask, one.signature, one.inputs) for version in versions
        ]
        for one in requests
    }
    return _judged(calls, dict.fromkeys(calls, _ROUNDS[1]), ratio)


def _judged(
    calls: Mapping[_Key, Sequence[_Call]], rounds: Mapping[_Key, int], ratio: float
) -> Verdict:
    """Measure the candidate's call, or its and the served version's, by key; and judge them."""
    if any(len(each) == 1 for each in calls.values()):
        alone = {key: _ms(_times(each, rounds[key])[0]) for key, each in calls.items()}
        return judge_latency(alone, None, ratio)
    pairs = {key: _compared(each, rounds[key], ratio) for key, each in calls.items()}
    return judge_latency(
        {key: now for key, (now, _) in pairs.items()},
        {key: before for key, (_, before) in pairs.items()},
        ratio,
    )


def judge_latency(
    times: Mapping[_Key, float], served: Mapping[_Key, float] | None, ratio: float
) -> Verdict:
    """The verdict on median latencies.

    Args:
        times: The candidate's milliseconds, by batch size or by what was asked.
        served: The served version's; None if nothing is served.
        ratio: The maximum latency relative to the served version's.

    Raises:
        Refused: One is more than `ratio` times the served version's, and more than half a
            millisecond above it.
    """
    figures: dict[str, Any] = {"milliseconds": {str(n): round(ms, 3) for n, ms in times.items()}}
    if served is None:
        told = ", ".join(f"{ms:.2f} ms {_where(n)}" for n, ms in times.items())
        return Verdict(said=f"{told}; no served version to compare with", figures=figures)
    told = "; ".join(
        f"{ms:.2f} ms {_where(n)}, {ms / served[n]:.2f} times the served version's {served[n]:.2f}"
        for n, ms in times.items()
    )
    figures |= {
        "served_milliseconds": {str(n): round(ms, 3) for n, ms in served.items()},
        "tolerance": ratio,
    }
    if any(_too_slow(ms, served[n], ratio) for n, ms in times.items()):
        raise Refused(
            f"{told}; the maximum is {ratio:g} times",
            hint="make the network smaller, or skip the gate 'latency' with a reason",
            figures=figures,
        )
    return Verdict(said=told, figures=figures)


def judge_size(size: int, served: int | None, ratio: float) -> Verdict:
    """The verdict on a candidate's size.

    Args:
        size: Bytes of all its files.
        served: Those of the served version; None if nothing is served.
        ratio: The maximum size relative to the served version's.

    Raises:
        Refused: It is more than `ratio` times as large, and a mebibyte larger.
    """
    figures: dict[str, object] = {"bytes": size}
    if served is None:
        return Verdict(said=f"{_mb(size)}; no served version to compare with", figures=figures)
    figures |= {"served_bytes": served, "ratio": round(size / served, 3), "tolerance": ratio}
    said = f"{_mb(size)}, {size / served:.2f} times the served version's {_mb(served)}"
    if size > max(served * ratio, served + _NEGLIGIBLE_BYTES):
        raise Refused(
            f"{said}; the maximum is {ratio:g} times",
            hint="skip the gate 'size' with a reason, or raise --size-ratio",
            figures=figures,
        )
    return Verdict(said=said, figures=figures)


def _runs(call: _Call) -> bool:
    """Whether the served version answers; its failure says nothing about the candidate."""
    try:
        call()
    except ServableError:
        return False
    return True


def _where(key: int | str) -> str:
    return f"at batch {key}" if isinstance(key, int) else key


def _compared(calls: Sequence[_Call], rounds: int, ratio: float) -> tuple[float, float]:
    """The medians of both, in milliseconds; of several attempts the best for the candidate."""
    best: tuple[float, float] | None = None
    for _ in range(_ATTEMPTS):
        now, before = map(_ms, _times(calls, rounds))
        if best is None or now / before < best[0] / best[1]:
            best = now, before
        if not _too_slow(now, before, ratio):
            break
    assert best is not None
    return best


def _too_slow(now: float, before: float, ratio: float) -> bool:
    return now > max(before * ratio, before + _NEGLIGIBLE_MS)


def _times(calls: Sequence[_Call], rounds: int) -> list[list[float]]:
    """Seconds of each call, for each version; they take turns."""
    found: list[list[float]] = [[] for _ in calls]
    for index in range(_WARM_UP + rounds):
        for call, times in zip(calls, found, strict=True):
            began = time.perf_counter()
            call()
            if index >= _WARM_UP:
                times.append(time.perf_counter() - began)
    return found


def _ms(seconds: list[float]) -> float:
    return statistics.median(seconds) * 1000


def _images(version: Classifier, holdout: Holdout | None) -> NDArray[np.uint8]:
    """As many images as the largest batch: held-out ones, or noise if there are none."""
    most = max(_ROUNDS)
    if holdout is not None:
        return holdout.images[np.arange(most) % len(holdout.images)]
    noise = np.random.default_rng(0)
    return noise.integers(0, 256, [most, *version.image_shape], np.uint8)


def _mb(size: int) -> str:
    return f"{size / 1e6:.2f} MB"
