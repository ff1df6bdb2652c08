"""Scores of a classifier on the test images: the figures of a manifest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from servable_serving.core.statistics import wilson_interval
from servable_trainer.scoring.metrics import expected_calibration_error, reliability

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class ClassScore:
    """Scores of one class, each from 0 to 1.

    Attributes:
        label: The class.
        precision: Share of the images predicted as this class that belong to it.
        recall: Share of the images of this class that were predicted as it.
        f1: Harmonic mean of precision and recall.
        support: Number of images of this class.
    """

    label: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Scores of a classifier.

    Attributes:
        accuracy: Share of correct predictions.
        interval: Its 95 % confidence interval (Wilson).
        macro_f1: Mean F1 of the classes.
        calibration_error: Expected calibration error, with 15 bins of equal width.
        count: Number of images.
        classes: Scores of each class, by its number.
    """

    accuracy: float
    interval: tuple[float, float]
    macro_f1: float
    calibration_error: float
    count: int
    classes: list[ClassScore]


def score(
    targets: NDArray[np.int64], probabilities: NDArray[np.floating], labels: tuple[str, ...]
) -> Evaluation:
    """Compare a classifier's predictions with the truth.

    Args:
        targets: Class numbers, int64 [N].
        probabilities: Float [N, C].
        labels: The name of each class, by its number.
    """
    from sklearn.metrics import precision_recall_fscore_support

    answers = probabilities.argmax(axis=1)
    precision, recall, f1, support = precision_recall_fscore_support(
        targets, answers, labels=range(len(labels)), zero_division=0
    )
    right = int((answers == targets).sum())
    return Evaluation(
        accuracy=right / len(targets),
        interval=wilson_interval(right, len(targets)),
        macro_f1=float(f1.mean()),
        calibration_error=expected_calibration_error(reliability(targets, probabilities)),
        count=len(targets),
        classes=[
            ClassScore(
                label=label,
                precision=float(precision[index]),
                recall=float(recall[index]),
                f1=float(f1[index]),
                support=int(support[index]),
            )
            for index, label in enumerate(labels)
        ],
    )


def print_evaluation(evaluation: Evaluation, *, title: str) -> None:
    """Print an evaluation as a table."""
    from servable_client.cli.console import print_table

    low, high = evaluation.interval
    print_table(
        ("class", "precision", "recall", "F1", "images"),
        [(c.label, c.precision, c.recall, c.f1, c.support) for c in evaluation.classes],
        title=f"{title}: accuracy {evaluation.accuracy:.4f} (95 % interval {low:.4f} to "
        f"{high:.4f}), macro F1 {evaluation.macro_f1:.4f}, "
        f"calibration error {evaluation.calibration_error:.4f}",
    )
