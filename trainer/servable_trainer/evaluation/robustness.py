"""How a classifier stands what pictures suffer on their way: noise, shifts and blur."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from servable_serving.core.statistics import wilson_interval
from servable_trainer.data.dataset import Pictures

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from servable_trainer.evaluation.evaluated_model import EvaluatedModel

# Enough for an interval of about two points to either side, at a fifth of the test set's cost.
PICTURES = 2000

# Of each disturbance: what its levels count, and the levels.
LEVELS: dict[str, tuple[str, tuple[float, ...]]] = {
    "noise": ("standard deviation, of 255", (8, 16, 32, 64)),
    "shift": ("pixels", (1, 2, 3, 4)),
    "blur": ("standard deviation, pixels", (0.5, 1, 1.5, 2)),
}


@dataclass(frozen=True, kw_only=True)
class RobustnessPoint:
    """How a classifier fares on disturbed pictures.

    Attributes:
        disturbance: "none", "noise", "shift" or "blur".
        level: How strong, in `unit`.
        unit: What the level counts.
        accuracy: The share of pictures named rightly.
        interval: 95 % confidence, by Wilson's interval.
        count: How many pictures; the same ones at each level.
    """

    disturbance: str
    level: float
    unit: str
    accuracy: float
    interval: tuple[float, float]
    count: int


def noise(
    images: NDArray[np.uint8], sigma: float, generator: np.random.Generator
) -> NDArray[np.uint8]:
    """Add Gaussian noise of the standard deviation `sigma`, in grey levels, cut at 0 and 255."""
    noisy = images + generator.normal(0, sigma, images.shape)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def shift(
    images: NDArray[np.uint8], pixels: int, generator: np.random.Generator
) -> NDArray[np.uint8]:
    """Move each picture `pixels` up, down, left or right, by chance; black comes in."""
    moved = np.zeros_like(images)
    direction = generator.integers(4, size=len(images))
    there, here = slice(pixels, None), slice(None, -pixels)
    for number, (target, source) in enumerate(
        [
            (np.s_[there, :], np.s_[here, :]),
            (np.s_[here, :], np.s_[there, :]),
            (np.s_[:, there], np.s_[:, here]),
            (np.s_[:, here], np.s_[:, there]),
        ]
    ):
        chosen = np.flatnonzero(direction == number)
        part = np.zeros_like(images[chosen])
        part[:, *target] = images[chosen][:, *source]
        moved[chosen] = part
    return moved


def blur(images: NDArray[np.uint8], sigma: float) -> NDArray[np.uint8]:
    """Blur with a Gaussian of the standard deviation `sigma`, in pixels; black lies around."""
    from scipy.ndimage import gaussian_filter

    blurred = gaussian_filter(
        images.astype(np.float32), sigma, mode="constant", axes=(1, 2), truncate=4
    )
    return np.asarray(np.clip(np.rint(blurred), 0, 255), np.uint8)


def robustness(
    subject: EvaluatedModel,
    pictures: Pictures,
    labels: tuple[str, ...],
    *,
    advance: Callable[[int], object],
    seed: int = 0,
) -> list[RobustnessPoint]:
    """Disturb pictures in each way at each level, and see what the classifier makes of them.

    Args:
        subject: The classifier.
        pictures: The same ones are disturbed each time.
        labels: The classes.
        advance: Called with the number of pictures that have been answered just now.
        seed: What the noise and the shifts' directions are drawn with.

    Returns:
        The undisturbed pictures first.
    """

    def measure(
        images: NDArray[np.uint8], disturbance: str, level: float, unit: str
    ) -> RobustnessPoint:
        disturbed = Pictures(images=images, targets=pictures.targets)
        answers = subject.answers(disturbed, labels, advance)
        right = int((answers.argmax(axis=1) == pictures.targets).sum())
        return RobustnessPoint(
            disturbance=disturbance,
            level=level,
            unit=unit,
            accuracy=right / len(pictures),
            interval=wilson_interval(right, len(pictures)),
            count=len(pictures),
        )

    found = [measure(pictures.images, "none", 0, "")]
    for disturbance, (unit, levels) in LEVELS.items():
        for level in levels:
            generator = np.random.default_rng(seed)
            if disturbance == "noise":
                images = noise(pictures.images, level, generator)
            elif disturbance == "shift":
                images = shift(pictures.images, int(level), generator)
            else:
                images = blur(pictures.images, level)
            found.append(measure(images, disturbance, level, unit))
    return found


def sample(pictures: Pictures, count: int = PICTURES, *, seed: int = 0) -> Pictures:
    """At most `count` of the pictures, drawn by `seed`."""
    if len(pictures) <= count:
        return pictures
    chosen = np.random.default_rng(seed).permutation(len(pictures))[:count]
    return Pictures(images=pictures.images[chosen], targets=pictures.targets[chosen])
