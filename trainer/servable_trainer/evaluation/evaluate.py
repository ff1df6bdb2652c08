"""Evaluation of a run, a SavedModel or an endpoint."""

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


def evaluate(
    what: Path | Client, dataset: Dataset, *, custom_objects: str | None = None
) -> Evaluation:
    """Evaluate a run, a SavedModel or a live endpoint on the test images.

    The result is saved with a run, and goes into the manifest when that is exported.

    Args:
        what: A directory, or a client, which stays open.
        dataset: The dataset that the classifier was trained on.
        custom_objects: Module that defines layers or functions of a run's network.

    Raises:
        ExportError: A run's network has layers of your own, and they are not named.
        RunError: `what` is none of these, or has other classes.
        CandidateError: `what` is a SavedModel whose files were changed since the export.
        ServableError: The server cannot be reached, or does not have the model.
    """
    with open_model(what, dataset, custom_objects=custom_objects) as subject:
        probabilities = subject.answers(dataset.test, dataset.labels, lambda _: None)
    evaluation = score(dataset.test.targets, probabilities, dataset.labels)
    _keep(what, evaluation)
    return evaluation


def examine(
    what: Path | Client,
    dataset: Dataset,
    *,
    thorough: bool = True,
    custom_objects: str | None = None,
) -> Examination:
    """As `evaluate`, with the confusion matrix, calibration and the worst mistakes.

    Args:
        what: A directory, or a client, which stays open.
        dataset: The dataset that the classifier was trained on.
        thorough: Measure robustness and latency too, which takes about twice as long.
        custom_objects: As for `evaluate`.

    Raises:
        ServableError: As `evaluate` does.
    """
    with open_model(what, dataset, custom_objects=custom_objects) as subject:
        examination = examination_of(subject, dataset, thorough=thorough)
    _keep(what, examination.evaluation)
    return examination


def _keep(what: Path | Client, evaluation: Evaluation) -> None:
    if isinstance(what, Path) and not (what / "saved_model.pb").is_file():
        save_evaluation(what, evaluation)
