"""From a run on disk to an evaluation, and to a candidate for the model repository."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from servable_serving._export import WARMUP_BATCHES, export
from servable_serving._manifest import check_candidate
from servable_serving._saved_model import SavedModel
from servable_trainer._evaluate import Evaluation, score
from servable_trainer._run import RunError, load_evaluation, load_run, save_evaluation

if TYPE_CHECKING:
    from pathlib import Path

    from servable_trainer._dataset import Dataset

_BATCH = 500


def evaluate(what: Path, dataset: Dataset) -> Evaluation:
    """How a run or a SavedModel fares on the test pictures; a run keeps the answer.

    Raises:
        RunError: `what` is neither, or one for other classes.
        CandidateError: `what` is a SavedModel whose files are not as they were exported.
    """
    if (what / "saved_model.pb").is_file():
        return _evaluate_saved_model(what, dataset)
    run, model = load_run(what)
    _check_labels(what, run.labels, dataset)
    probabilities = model.predict(dataset.test.images, batch_size=_BATCH, verbose=0)
    evaluation = score(dataset.test.targets, probabilities, dataset.labels)
    save_evaluation(what, evaluation)
    return evaluation


def _evaluate_saved_model(folder: Path, dataset: Dataset) -> Evaluation:
    _check_labels(folder, check_candidate(folder)["labels"], dataset)
    model = SavedModel(folder)
    try:
        answers = [
            model.run("serving_default", {"image": dataset.test.images[start : start + _BATCH]})[
                "probabilities"
            ]
            for start in range(0, len(dataset.test), _BATCH)
        ]
    finally:
        model.close()
    return score(dataset.test.targets, np.concatenate(answers), dataset.labels)


def _check_labels(what: Path, labels: list[str], dataset: Dataset) -> None:
    if tuple(labels) != dataset.labels:
        raise RunError(
            f"{what} knows other classes than {dataset.name}",
            hint="evaluate it on the dataset that it was trained with",
        )


def export_run(directory: Path, target: Path, dataset: Dataset, *, name: str) -> dict[str, Any]:
    """Write a run's network as a candidate.

    The warm-up records and golden requests are made of training pictures.

    Returns:
        The manifest.

    Raises:
        RunError: `directory` holds no run.
        ExportError: Its network does not fit the model contract.
        FolderError: `target` exists or cannot be written.
    """
    run, model = load_run(directory)
    test = load_evaluation(directory)
    return export(
        model,
        target,
        name=name,
        labels=run.labels,
        examples=dataset.train.images[: max(WARMUP_BATCHES)],
        about={
            "dataset": {"name": run.dataset, "sha256": run.checksums},
            "seed": run.seed,
            "hyperparameters": run.hyperparameters,
            "training": {
                "epochs": run.epochs,
                "pictures": run.fitted,
                "seconds": run.seconds,
                "started_from": run.started_from,
            },
            "metrics": {
                "validation": run.validation and {**run.validation, "count": run.validated},
                "test": test,
            },
            "parameters": int(model.count_params()),
        },
    )
