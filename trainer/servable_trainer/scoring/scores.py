"""How good a classifier is on the test pictures, in the few figures that a manifest keeps."""

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
    """How one class fared, each figure between 0 and 1.

    Attributes:
        label: The class.
        precision: Of what was called this, the share that is.
        recall: Of what is this, the share that was called so.
        f1: Their harmonic mean.
        support: How many pictures are of this class.
    """

    label: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """How a classifier fared.

    Attributes:
        accuracy: The share of pictures named rightly.
        interval: Where the accuracy on all pictures of this kind lies with 95 % confidence, by
            Wilson's interval.
        macro_f1: The mean of the classes' F1.
        calibration_error: The expected calibration error, of 15 bins of equal width.
        count: How many pictures there were.
        classes: Each class, in the order of its number.
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
    """Hold a classifier's answers against the truth.

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
    """Print it as a table."""
    from servable_client.cli.console import print_table

    low, high = evaluation.interval
    print_table(
        ("class", "precision", "recall", "F1", "pictures"),
        [(c.label, c.precision, c.recall, c.f1, c.support) for c in evaluation.classes],
        title=f"{title}: accuracy {evaluation.accuracy:.4f} (95 % interval {low:.4f} to "
        f"{high:.4f}), macro F1 {evaluation.macro_f1:.4f}, "
        f"calibration error {evaluation.calibration_error:.4f}",
    )
