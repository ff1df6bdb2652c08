"""What a teacher answers, for a network that learns from it."""

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
    """A run's or SavedModel's probabilities for each training picture, float32 [N, C].

    Raises:
        RunError: `teacher` is neither, or one for other classes.
        CandidateError: It is a SavedModel whose files are not as they were exported.
    """
    with open_model(teacher, dataset) as subject, progress_bar() as progress:
        task = progress.add_task("asking the teacher", total=len(dataset.train))
        return subject.answers(
            dataset.train, dataset.labels, lambda more: progress.advance(task, more)
        )
