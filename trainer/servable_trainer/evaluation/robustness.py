"""Robustness of a classifier to noise, shifts and blur."""

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

# Enough for an interval of about plus or minus two points, at a fifth of the cost of all.
SAMPLE = 2000

# Each disturbance with the unit of its levels, and the levels.
LEVELS: dict[str, tuple[str, tuple[float, ...]]] = {
    "noise": ("standard deviation, of 255", (8, 16, 32, 64)),
    "shift": ("pixels", (1, 2, 3, 4)),
    "blur": ("standard deviation, pixels", (0.5, 1, 1.5, 2)),
}


@dataclass(frozen=True, kw_only=True)
class RobustnessPoint:
    """Accuracy at one level of a disturbance.

    Attributes:
        disturbance: "none", "noise", "shift" or "blur".
        level: Its strength, in `unit`.
        unit: Unit of the level.
        accuracy: Accuracy on the disturbed images.
        interval: Its 95 % confidence interval (Wilson).
        count: Number of images; the same ones at each level.
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
    """Add Gaussian noise of standard deviation `sigma`, in grey levels, clipped to 0 to 255."""
    noisy = images + generator.normal(0, sigma, images.shape)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def shift(
    images: NDArray[np.uint8], pixels: int, generator: np.random.Generator
) -> NDArray[np.uint8]:
    """Shift each image by `pixels` up, down, left or right at random; the border is black."""
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
    """Blur with a Gaussian of standard deviation `sigma`, in pixels; the border is black."""
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
    """Measure the accuracy under each disturbance at each level.

    Args:
        subject: The classifier.
        pictures: The images; the same ones are disturbed each time.
        labels: The classes.
        advance: Called with the size of each finished batch.
        seed: Seed of the noise and of the directions of the shifts.

    Returns:
        The undisturbed images first.
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


def sample(pictures: Pictures, count: int = SAMPLE, *, seed: int = 0) -> Pictures:
    """A random sample of at most `count` images."""
    if len(pictures) <= count:
        return pictures
    chosen = np.random.default_rng(seed).permutation(len(pictures))[:count]
    return Pictures(images=pictures.images[chosen], targets=pictures.targets[chosen])
