"""The gate of the latency: how long a candidate takes beside the served version.

In this process, without a server, and in turns: whatever else the machine does hits both alike.
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from servable_serving.core.files import folder_size
from servable_serving.core.names import DEFAULT_SIGNATURE
from servable_serving.gates.verdict import Refused, Verdict
from servable_serving.model.saved_model import SavedModel

if TYPE_CHECKING:
    from pathlib import Path

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from servable_serving.gates.holdout import Holdout

# Batch size, and how often each of the two is asked.
_ROUNDS = {1: 60, 32: 20}
_WARM_UP = 5
_NEVER_TOO_MUCH_MS = 0.5
_ATTEMPTS = 3


def compare_latency(
    candidate: Path, served: Path | None, holdout: Holdout | None, ratio: float
) -> Verdict:
    """Hold a candidate's time at batch 1 and 32 against the served version's.

    A machine that others use makes single measurements lie: what looks too slow is measured twice
    more, and the best of the three ratios counts.

    Raises:
        Refused: Its median is more than `ratio` times as long at one of them, and half a
            millisecond longer.
        ModelError: One of the two cannot be run.
    """
    mine = SavedModel(candidate)
    try:
        pictures = _pictures(mine, holdout)
        if served is None:
            times = {n: _ms(_times([mine], pictures[:n], r)[0]) for n, r in _ROUNDS.items()}
            told = ", ".join(f"{ms:.2f} ms at batch {n}" for n, ms in times.items())
            return Verdict(
                said=f"{told}; nothing is served to hold it against",
                figures={"milliseconds": {str(n): round(ms, 3) for n, ms in times.items()}},
            )
        theirs = SavedModel(served)
        try:
            found = {n: _compared(mine, theirs, pictures[:n], n, ratio) for n in _ROUNDS}
        finally:
            theirs.close()
    finally:
        mine.close()
    told = "; ".join(
        f"{now:.2f} ms at batch {n}, {now / before:.2f} times the served version's {before:.2f}"
        for n, (now, before) in found.items()
    )
    figures: dict[str, Any] = {
        "milliseconds": {str(n): round(now, 3) for n, (now, _) in found.items()},
        "served_milliseconds": {str(n): round(before, 3) for n, (_, before) in found.items()},
        "tolerance": ratio,
    }
    if any(_too_slow(now, before, ratio) for now, before in found.values()):
        raise Refused(
            f"{told}; at most {ratio:g} times is tolerated",
            hint="make the network smaller, or skip the gate 'latency' with a reason",
            figures=figures,
        )
    return Verdict(said=told, figures=figures)


def _compared(
    mine: SavedModel, theirs: SavedModel, pictures: NDArray[np.uint8], batch: int, ratio: float
) -> tuple[float, float]:
    """The medians of both, in milliseconds; of several attempts the kindest to the candidate."""
    best: tuple[float, float] | None = None
    for _ in range(_ATTEMPTS):
        now, before = map(_ms, _times([mine, theirs], pictures, _ROUNDS[batch]))
        if best is None or now / before < best[0] / best[1]:
            best = now, before
        if not _too_slow(now, before, ratio):
            break
    assert best is not None
    return best


def _too_slow(now: float, before: float, ratio: float) -> bool:
    return now > max(before * ratio, before + _NEVER_TOO_MUCH_MS)


def _times(models: list[SavedModel], pictures: NDArray[np.uint8], rounds: int) -> list[list[float]]:
    """Seconds of each call, for each model; they take turns."""
    found: list[list[float]] = [[] for _ in models]
    for index in range(_WARM_UP + rounds):
        for model, times in zip(models, found, strict=True):
            began = time.perf_counter()
            model.run(DEFAULT_SIGNATURE, {"image": pictures})
            if index >= _WARM_UP:
                times.append(time.perf_counter() - began)
    return found


def _ms(seconds: list[float]) -> float:
    return statistics.median(seconds) * 1000


def _pictures(model: SavedModel, holdout: Holdout | None) -> NDArray[np.uint8]:
    """As many pictures as the largest batch: held-out ones, or noise where there are none."""
    shape = [
        dim.size for dim in model.signatures[DEFAULT_SIGNATURE].inputs["image"].tensor_shape.dim
    ]
    most = max(_ROUNDS)
    if holdout is not None:
        return holdout.images[np.arange(most) % len(holdout.images)]
    noise = np.random.default_rng(0)
    return noise.integers(0, 256, [most, *shape[1:]], np.uint8)


_NEVER_TOO_MUCH = 1 << 20


def compare_size(candidate: Path, served: Path | None, ratio: float) -> Verdict:
    """Hold a candidate's size against the served version's.

    Raises:
        Refused: It is more than `ratio` times as large, and a mebibyte larger.
    """
    size = folder_size(candidate)
    figures: dict[str, object] = {"bytes": size}
    if served is None:
        return Verdict(said=f"{_mb(size)}; nothing is served to hold it against", figures=figures)
    before = folder_size(served)
    figures |= {"served_bytes": before, "ratio": round(size / before, 3), "tolerance": ratio}
    said = f"{_mb(size)}, {size / before:.2f} times the served version's {_mb(before)}"
    if size > max(before * ratio, before + _NEVER_TOO_MUCH):
        raise Refused(
            f"{said}, and at most {ratio:g} times is tolerated",
            hint="skip the gate 'size' with a reason, or raise its tolerance",
            figures=figures,
        )
    return Verdict(said=said, figures=figures)


def _mb(size: int) -> str:
    return f"{size / 1e6:.2f} MB"
