"""Export of a training run as a candidate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from servable_serving.exporter.export import WARMUP_BATCHES, export
from servable_trainer.networks.own_images import ImageInputs
from servable_trainer.training.run import load_evaluation, load_run

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from servable_trainer.data.dataset import Dataset
    from servable_trainer.training.run import Run


def export_run(
    directory: Path,
    target: Path,
    dataset: Dataset,
    *,
    name: str,
    custom_objects: str | None = None,
) -> dict[str, Any]:
    """Export a run's network as a candidate.

    The warm-up records and golden requests are made from training images.

    Args:
        directory: The run, which was trained on images.
        target: A new folder.
        dataset: The images.
        name: The name that it will be served under.
        custom_objects: Module that defines layers or functions of a network of a user's own.

    Returns:
        The manifest.

    Raises:
        RunError: `directory` is not a run.
        ExportError: Its network does not fit the model contract.
        FolderError: `target` exists or cannot be written.
    """
    run, model = load_run(directory, custom_objects=custom_objects)
    own = ImageInputs(**run.inputs) if run.inputs else None
    return export(
        model,
        target,
        name=name,
        labels=run.labels,
        examples=dataset.train.images[: max(WARMUP_BATCHES)],
        reference=_validation_images(run, dataset),
        input_range=None if own is None else own.input_range,
        logits=own is not None and own.logits,
        invert=True,  # as the images of a dataset are read
        about={
            **about_run(run, test=load_evaluation(directory)),
            "parameters": int(model.count_params()),
        },
    )


def _validation_images(run: Run, dataset: Dataset) -> NDArray[np.uint8] | None:
    """The images that a run was validated on; None if it was not."""
    if not run.validated or run.fitted + run.validated != len(dataset.train):
        return None
    share = run.validated / len(dataset.train)
    return dataset.split(seed=run.seed, validation=share)[1].images


def about_run(run: Run, *, test: dict[str, Any] | None = None) -> dict[str, Any]:
    """What a manifest holds about a run.

    Args:
        run: Its record.
        test: Its evaluation on the test images, if there was one.
    """
    return {
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
            "validation": run.validation and {**run.validation, "count": run.validated or None},
            "test": test,
        },
    }
