"""How good a classifier is on the test pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

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
        macro_f1: The mean of the classes' F1.
        count: How many pictures there were.
        classes: Each class, in the order of its number.
    """

    accuracy: float
    macro_f1: float
    count: int
    classes: list[ClassScore]


def score(
    targets: NDArray[np.int64], probabilities: NDArray[np.float32], labels: tuple[str, ...]
) -> Evaluation:
    """Compare answers with the truth.

    Args:
        targets: The true class numbers, int64 [N].
        probabilities: The answers, float32 [N, C].
        labels: The name of each class, by its number.
    """
    from sklearn.metrics import accuracy_score, precision_recall_fscore_support

    answers = probabilities.argmax(axis=1)
    precision, recall, f1, support = precision_recall_fscore_support(
        targets, answers, labels=range(len(labels)), zero_division=0
    )
    return Evaluation(
        accuracy=float(accuracy_score(targets, answers)),
        macro_f1=float(f1.mean()),
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
    from servable_client._console import print_table

    print_table(
        ("class", "precision", "recall", "F1", "pictures"),
        [(c.label, c.precision, c.recall, c.f1, c.support) for c in evaluation.classes],
        title=f"{title}: accuracy {evaluation.accuracy:.4f}, macro F1 {evaluation.macro_f1:.4f}",
    )
