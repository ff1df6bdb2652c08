"""Calibration metrics, from probabilities and true classes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# As in Guo et al. 2017, so that the figures can be compared with published ones.
BINS = 15

_TEMPERATURES = (0.05, 20.0)
# A float32 probability that was rounded to 0 still has a logarithm.
_TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, kw_only=True)
class Bin:
    """The images with a confidence in [low, high).

    Attributes:
        low: Lower bound.
        high: Upper bound; the last bin includes 1.
        count: Number of images.
        confidence: Mean probability of the predicted class; 0 if empty.
        accuracy: Share of correct predictions; 0 if empty.
    """

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


def reliability(
    targets: NDArray[Any], probabilities: NDArray[Any], *, bins: int = BINS
) -> list[Bin]:
    """Accuracy by confidence, in bins of equal width.

    Args:
        targets: Class numbers, integers [N].
        probabilities: Float [N, C].
        bins: Number of bins.
    """
    sure = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == targets
    place = np.minimum((sure * bins).astype(np.int64), bins - 1)
    count = np.bincount(place, minlength=bins)
    some = np.maximum(count, 1)
    confidence = np.bincount(place, weights=sure, minlength=bins) / some
    accuracy = np.bincount(place, weights=right, minlength=bins) / some
    return [
        Bin(
            low=i / bins,
            high=(i + 1) / bins,
            count=int(count[i]),
            confidence=float(confidence[i]),
            accuracy=float(accuracy[i]),
        )
        for i in range(bins)
    ]


def expected_calibration_error(bins: list[Bin]) -> float:
    """ECE (Naeini et al. 2015): the gaps of confidence and accuracy, weighted by bin size."""
    count = sum(b.count for b in bins)
    return sum(b.count * abs(b.confidence - b.accuracy) for b in bins) / count if count else 0.0


def negative_log_likelihood(targets: NDArray[Any], probabilities: NDArray[Any]) -> float:
    """The mean of -ln(probability of the true class)."""
    of_truth = probabilities[np.arange(len(targets)), targets].astype(np.float64)
    return float(-np.log(np.maximum(of_truth, _TINY)).mean())


def cooled(probabilities: NDArray[Any], temperature: float) -> NDArray[np.float64]:
    """Probabilities with their logits divided by `temperature`; above 1 they become more even.

    The logits are not needed: logarithms of the probabilities differ from them by a constant per
    image, which cancels in the softmax.
    """
    logits = np.log(np.maximum(probabilities.astype(np.float64), _TINY)) / temperature
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def fit_temperature(targets: NDArray[Any], probabilities: NDArray[Any]) -> float:
    """The temperature of the lowest negative log-likelihood (Guo et al. 2017), 0.05 to 20."""
    from scipy.optimize import minimize_scalar

    found = minimize_scalar(
        lambda log: negative_log_likelihood(targets, cooled(probabilities, math.exp(log))),
        bounds=tuple(math.log(t) for t in _TEMPERATURES),
        method="bounded",
        options={"xatol": 1e-4},
    )
    return float(math.exp(found.x))
