"""From a run on disk to an evaluation, and to a candidate for the model repository."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from servable_trainer.evaluation.evaluated_model import open_model
from servable_trainer.evaluation.examination import Examination, examination_of
from servable_trainer.scoring.scores import Evaluation, score
from servable_trainer.training.run import save_evaluation

if TYPE_CHECKING:
    from servable_client import Client
    from servable_trainer.data.dataset import Dataset


def evaluate(what: Path | Client, dataset: Dataset) -> Evaluation:
    """How a run, a SavedModel or a live endpoint fares on the test pictures.

    A run keeps the answer, which goes into the manifest when it is exported.

    Args:
        what: A folder, or a client; it stays open.
        dataset: The one that the classifier was trained with.

    Raises:
        RunError: `what` is none of them, or one for other classes.
        CandidateError: `what` is a SavedModel whose files are not as they were exported.
        ServableError: The server cannot be reached, or has no such model.
    """
    with open_model(what, dataset) as subject:
        probabilities = subject.answers(dataset.test, dataset.labels, lambda _: None)
    evaluation = score(dataset.test.targets, probabilities, dataset.labels)
    _keep(what, evaluation)
    return evaluation


def examine(what: Path | Client, dataset: Dataset, *, thorough: bool = True) -> Examination:
    """The same, and all else that can be found out: confusion, calibration, the worst mistakes.

    Args:
        what: A folder, or a client; it stays open.
        dataset: The one that the classifier was trained with.
        thorough: Measure robustness and latency too; that takes about twice as long.

    Raises:
        ServableError: As `evaluate` does.
    """
    with open_model(what, dataset) as subject:
        examination = examination_of(subject, dataset, thorough=thorough)
    _keep(what, examination.evaluation)
    return examination


def _keep(what: Path | Client, evaluation: Evaluation) -> None:
    if isinstance(what, Path) and not (what / "saved_model.pb").is_file():
        save_evaluation(what, evaluation)
