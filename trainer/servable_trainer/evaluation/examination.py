"""A full evaluation of a classifier: the content of a report."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from servable_client.cli.console import progress_bar
from servable_trainer.evaluation.evaluated_model import EvaluatedModel, details
from servable_trainer.evaluation.latency import BATCHES, Latency, latency
from servable_trainer.evaluation.robustness import LEVELS, RobustnessPoint, robustness, sample
from servable_trainer.scoring.metrics import (
    Bin,
    cooled,
    expected_calibration_error,
    fit_temperature,
    negative_log_likelihood,
    reliability,
)
from servable_trainer.scoring.scores import Evaluation, score

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from servable_trainer.data.dataset import Dataset

MISTAKES = 24
_FITTED_ON = {"validation": "validation images", "half of test": "of the test images"}
# One number is fitted: more images would cost time and change little.
_TO_FIT = 2000


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Calibration of the probabilities, and what temperature scaling would change.

    Attributes:
        bins: All test images, by confidence.
        temperature: The best divisor of the logits; above 1 if the classifier is overconfident.
        fitted_on: "validation" or "half of test": the images that the temperature was fitted to.
        fitted: Number of these.
        measured: Number of the other images, which the figures below are of.
        error: Expected calibration error.
        error_cooled: The same with the temperature.
        nll: Mean negative log-likelihood.
        nll_cooled: The same with the temperature.
    """

    bins: list[Bin]
    temperature: float
    fitted_on: str
    fitted: int
    measured: int
    error: float
    error_cooled: float
    nll: float
    nll_cooled: float


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """A misclassified image.

    Attributes:
        index: Its index in the test images.
        truth: Its class.
        answer: The predicted class.
        probability: Probability of the predicted class.
        probability_of_truth: Probability of its class.
    """

    index: int
    truth: str
    answer: str
    probability: float
    probability_of_truth: float


@dataclass(frozen=True, kw_only=True)
class Examination:
    """A full evaluation of a classifier on a dataset's test images.

    Attributes:
        subject: The model: `what`, `kind` and an endpoint's `version`.
        dataset: The dataset's name, and the SHA-256 of its files.
        evaluation: The main figures.
        confusion: Confusion matrix: rows are true classes, columns predicted ones.
        calibration: Calibration of the probabilities.
        mistakes: The 24 mistakes of the highest confidence, the worst first.
        robustness: Under noise, shift and blur; None if not measured.
        latency: For each batch size; None if not measured.
        clock: What the latency includes, as a clause.
    """

    subject: dict[str, Any]
    dataset: dict[str, Any]
    evaluation: Evaluation
    confusion: list[list[int]]
    calibration: Calibration
    mistakes: list[Mistake]
    robustness: list[RobustnessPoint] | None
    latency: list[Latency] | None
    clock: str

    def as_dict(self) -> dict[str, Any]:
        """All of it, for JSON; the figures of the evaluation are at the top level."""
        found = asdict(self)
        return {**found.pop("subject"), **found.pop("evaluation"), **found}

    def rows(self) -> list[tuple[str, str]]:
        """All but the evaluation, as rows of a table: metric and value."""
        c = self.calibration
        found = [
            (
                f"temperature, fitted to {c.fitted} {_FITTED_ON[c.fitted_on]}",
                f"{c.temperature:.3f}",
            ),
            (
                f"calibration error of {c.measured} others with that temperature",
                f"{c.error_cooled:.4f} (without: {c.error:.4f})",
            ),
        ]
        for d in self.robustness or ():
            name = f"{d.disturbance} {d.level:g} ({d.unit})" if d.unit else "undisturbed"
            low, high = d.interval
            found.append(
                (
                    f"accuracy, {name}, {d.count} images",
                    f"{d.accuracy:.3f} ({low:.3f}-{high:.3f})",
                )
            )
        found += [
            (
                f"latency, batch {one.batch}, {self.clock}",
                f"median {one.median_ms:.2f} ms, p99 {one.p99_ms:.2f} ms, {one.cpu_ms:.2f} CPU-ms",
            )
            for one in self.latency or ()
        ]
        return found


def examination_of(subject: EvaluatedModel, dataset: Dataset, *, thorough: bool) -> Examination:
    """Evaluate a classifier in full.

    Args:
        subject: The classifier.
        dataset: Its test images are used, and those that validated the classifier.
        thorough: Measure robustness and latency too, which about doubles the time.

    Raises:
        ServableError: The classifier fails, or does not return probabilities.
    """
    test, labels = dataset.test, dataset.labels
    validation = subject.validation(dataset)
    disturbed = sample(test)
    total = len(test) + (min(_TO_FIT, len(validation)) if validation else 0)
    if thorough:
        total += len(disturbed) * (1 + sum(len(levels) for _, levels in LEVELS.values()))
    with progress_bar() as progress:
        task = progress.add_task("evaluating", total=total)

        def advance(count: int) -> None:
            progress.advance(task, count)

        probabilities = subject.answers(test, labels, advance)
        held_out = None
        if validation:
            kept = validation.first(_TO_FIT)
            held_out = kept.targets, subject.answers(kept, labels, advance)
        stood = robustness(subject, disturbed, labels, advance=advance) if thorough else None
    return Examination(
        subject=details(subject),
        dataset={"name": dataset.name, "sha256": dataset.checksums},
        evaluation=score(test.targets, probabilities, labels),
        confusion=confusion_of(test.targets, probabilities),
        calibration=calibration_of(test.targets, probabilities, held_out),
        mistakes=mistakes_of(test.targets, probabilities, labels),
        robustness=stood,
        latency=[latency(subject, test, batch=batch) for batch in BATCHES] if thorough else None,
        clock=subject.clock,
    )


def confusion_of(targets: NDArray[Any], probabilities: NDArray[Any]) -> list[list[int]]:
    """Confusion matrix: rows are true classes, columns predicted ones."""
    classes = probabilities.shape[1]
    pairs = targets * classes + probabilities.argmax(axis=1)
    counts: list[list[int]] = (
        np.bincount(pairs, minlength=classes * classes).reshape(classes, classes).tolist()
    )
    return counts


def calibration_of(
    targets: NDArray[Any],
    probabilities: NDArray[Any],
    held_out: tuple[NDArray[Any], NDArray[Any]] | None,
    *,
    seed: int = 0,
) -> Calibration:
    """Fit a temperature to some images, and measure its effect on others.

    Args:
        targets: Classes of the test images, integers [N].
        probabilities: Their probabilities, float [N, C].
        held_out: The same of images that were neither trained nor tested on, to fit the temperature
            to; default: one half of the test images is fitted and the other measured.
        seed: Seed of the halves.
    """
    bins = reliability(targets, probabilities)
    if held_out is None:
        order = np.random.default_rng(seed).permutation(len(targets))
        to_fit, rest = order[: len(order) // 2], order[len(order) // 2 :]
        held_out = targets[to_fit], probabilities[to_fit]
        targets, probabilities, fitted_on = targets[rest], probabilities[rest], "half of test"
    else:
        fitted_on = "validation"
    # A single test image leaves nothing to fit.
    temperature = fit_temperature(*held_out) if len(held_out[0]) else 1.0
    after = cooled(probabilities, temperature)
    return Calibration(
        bins=bins,
        temperature=temperature,
        fitted_on=fitted_on,
        fitted=len(held_out[0]),
        measured=len(targets),
        error=expected_calibration_error(reliability(targets, probabilities)),
        error_cooled=expected_calibration_error(reliability(targets, after)),
        nll=negative_log_likelihood(targets, probabilities),
        nll_cooled=negative_log_likelihood(targets, after),
    )


def mistakes_of(
    targets: NDArray[Any],
    probabilities: NDArray[Any],
    labels: tuple[str, ...],
    *,
    count: int = MISTAKES,
) -> list[Mistake]:
    """The misclassified images, those of the highest confidence first."""
    answers, sure = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = np.flatnonzero(answers != targets)
    worst = wrong[np.argsort(-sure[wrong], kind="stable")][:count]
    return [
        Mistake(
            index=int(index),
            truth=labels[targets[index]],
            answer=labels[answers[index]],
            probability=float(sure[index]),
            probability_of_truth=float(probabilities[index, targets[index]]),
        )
        for index in worst
    ]
