"""The outputs of a teacher, for knowledge distillation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from servable_client.cli.console import progress_bar
from servable_trainer.evaluation.evaluated_model import open_model

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from servable_trainer.data.dataset import Dataset


def teach(teacher: Path, dataset: Dataset) -> NDArray[np.float32]:
    """A run's or SavedModel's probabilities for each training image, float32 [N, C].

    Raises:
        RunError: `teacher` is neither, or has other classes.
        CandidateError: It is a SavedModel whose files were changed since the export.
    """
    with open_model(teacher, dataset) as subject, progress_bar() as progress:
        task = progress.add_task("running the teacher", total=len(dataset.train))
        return subject.answers(
            dataset.train, dataset.labels, lambda more: progress.advance(task, more)
        )
