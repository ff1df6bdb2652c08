"""All that is found out about a classifier: what a report shows."""

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
_PICTURES = {"validation": "validation pictures", "half of test": "of the test pictures"}
# One number is fitted: more would cost time and move it little.
_TO_FIT = 2000


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """How far the probabilities are what they say, and what a temperature would mend.

    Attributes:
        bins: All test pictures, by how sure the classifier is.
        temperature: What to divide the logits by; above 1 where it is too sure.
        fitted_on: "validation" or "half of test": what the temperature was found on.
        fitted: How many pictures that were.
        measured: How many others the figures below are of.
        error: Their expected calibration error, as the classifier answers.
        error_cooled: The same with the temperature.
        nll: Their mean negative log-likelihood, as the classifier answers.
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
    """A picture that was named wrongly.

    Attributes:
        index: Its place among the test pictures.
        truth: What it is.
        answer: What it was taken for.
        probability: Of the answer.
        probability_of_truth: Of what it is.
    """

    index: int
    truth: str
    answer: str
    probability: float
    probability_of_truth: float


@dataclass(frozen=True, kw_only=True)
class Examination:
    """What was found out about a classifier on a dataset's test pictures.

    Attributes:
        subject: What was examined: `what`, `kind` and the endpoint's `version`.
        dataset: The dataset's name, and the SHA-256 of its files.
        evaluation: The figures that matter most.
        confusion: How often the class of the row was taken for that of the column.
        calibration: How far the probabilities are what they say.
        mistakes: The worst first: those it was surest of; at most 24.
        robustness: Under noise, shift and blur; None where it was not measured.
        latency: For each batch size; None where it was not measured.
        clock: What the latency holds, as a clause.
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
        """All of it, for JSON; the evaluation's figures stand at the top."""
        found = asdict(self)
        return {**found.pop("subject"), **found.pop("evaluation"), **found}

    def rows(self) -> list[tuple[str, str]]:
        """What stands beside the evaluation, for a table of names and values."""
        c = self.calibration
        found = [
            (
                f"temperature, fitted to {c.fitted} {_PICTURES[c.fitted_on]}",
                f"{c.temperature:.3f}",
            ),
            (
                f"calibration error of {c.measured} others with it",
                f"{c.error_cooled:.4f} in place of {c.error:.4f}",
            ),
        ]
        for d in self.robustness or ():
            name = f"{d.disturbance} {d.level:g} ({d.unit})" if d.unit else "undisturbed"
            low, high = d.interval
            found.append(
                (
                    f"accuracy, {name}, {d.count} pictures",
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
    """Find it all out.

    Args:
        subject: The classifier.
        dataset: Its test pictures are asked about, and those that validated the classifier.
        thorough: Measure robustness and latency too; that about doubles the time.

    Raises:
        ServableError: The classifier does not answer, or not with probabilities.
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
    """How often the class of the row was taken for that of the column."""
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
    """Fit a temperature to pictures, and see on others what it is worth.

    Args:
        targets: The test pictures' classes, integers [N].
        probabilities: What the classifier made of them, float [N, C].
        held_out: The same of pictures to fit the temperature to, neither learnt from nor tested
            with; without, one half of the test pictures is fitted and the other measured.
        seed: What the halves are drawn with.
    """
    bins = reliability(targets, probabilities)
    if held_out is None:
        order = np.random.default_rng(seed).permutation(len(targets))
        to_fit, rest = order[: len(order) // 2], order[len(order) // 2 :]
        held_out = targets[to_fit], probabilities[to_fit]
        targets, probabilities, fitted_on = targets[rest], probabilities[rest], "half of test"
    else:
        fitted_on = "validation"
    # A single picture leaves nothing to fit.
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
    """The pictures named wrongly, those that the classifier was surest of first."""
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
