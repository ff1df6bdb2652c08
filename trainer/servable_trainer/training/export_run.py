"""Export of a training run as a candidate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from servable_serving.exporter.export import WARMUP_BATCHES, export
from servable_trainer.training.run import load_evaluation, load_run

if TYPE_CHECKING:
    from pathlib import Path

    from servable_trainer.data.dataset import Dataset


def export_run(directory: Path, target: Path, dataset: Dataset, *, name: str) -> dict[str, Any]:
    """Export a run's network as a candidate.

    The warm-up records and golden requests are made from training images.

    Returns:
        The manifest.

    Raises:
        RunError: `directory` is not a run.
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
        invert=True,  # as the images of a dataset are read
        about={
            "dataset": {"name": run.dataset, "sha256": run.checksums},
            "seed": run.seed,
            "hyperparameters": run.hyperparameters,
            "training": {
                "epochs": run.epochs,
                "pictures": run.fitted,
                "seconds": run.seconds,
                "cpu_seconds": run.cpu_seconds,
                "started_from": run.started_from,
            },
            "calibration": {"temperature": run.temperature, "pictures": run.calibrated},
            "metrics": {
                "validation": run.validation and {**run.validation, "count": run.validated},
                "test": test,
            },
            "parameters": int(model.count_params()),
        },
    )
