"""A training run on disk: a folder with the network and how it came to be."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from servable_client import ServableError
from servable_serving._folder import new_folder

if TYPE_CHECKING:
    from pathlib import Path

    import keras

    from servable_trainer._evaluate import Evaluation

_MODEL, _RECORD, _EVALUATION = "model.keras", "run.json", "evaluation.json"


class RunError(ServableError):
    """A folder is no training run, or not one that fits."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """How a network came to be.

    Attributes:
        dataset: The dataset's name.
        checksums: SHA-256 of the dataset's files, by file name.
        labels: The name of each class, by its number.
        size: Height and width of a picture.
        hyperparameters: What the network was built from.
        seed: What its weights and batches were drawn with.
        epochs: One entry an epoch: loss and accuracy, and validation's where there was any.
        fitted: How many pictures it learnt from.
        validated: How many pictures validated it; 0 where all were learnt from.
        seconds: How long the fit took.
        started_from: The run that it went on from, or None.
    """

    dataset: str
    checksums: dict[str, str]
    labels: list[str]
    size: tuple[int, int]
    hyperparameters: dict[str, Any]
    seed: int
    epochs: list[dict[str, float]]
    fitted: int
    validated: int
    seconds: float
    started_from: dict[str, Any] | None = field(default=None)

    @property
    def validation(self) -> dict[str, float] | None:
        """Loss and accuracy on the validation pictures after the last epoch."""
        if not self.validated or not self.epochs:
            return None
        last = self.epochs[-1]
        return {"loss": last["val_loss"], "accuracy": last["val_accuracy"]}

    def save(self, directory: Path, model: keras.Model) -> None:
        """Write the run, whole or not at all.

        Raises:
            FolderError: `directory` exists or cannot be written.
        """
        with new_folder(directory) as incoming:
            model.save(incoming / _MODEL)
            (incoming / _RECORD).write_text(json.dumps(asdict(self), indent=2) + "\n")


def load_run(directory: Path) -> tuple[Run, keras.Model]:
    """Read a run.

    Raises:
        RunError: `directory` holds none.
    """
    import keras

    try:
        record = json.loads((directory / _RECORD).read_text())
        run = Run(**{**record, "size": tuple(record["size"])})
        model = keras.saving.load_model(directory / _MODEL)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RunError(
            f"{directory} holds no training run: {error}", hint="`servable train` writes one"
        ) from error
    return run, model


def save_evaluation(directory: Path, evaluation: Evaluation) -> None:
    """Keep an evaluation beside the run that it is of, for the manifest."""
    (directory / _EVALUATION).write_text(json.dumps(asdict(evaluation), indent=2) + "\n")


def load_evaluation(directory: Path) -> dict[str, Any] | None:
    """The evaluation of a run; None where there was none."""
    try:
        return json.loads((directory / _EVALUATION).read_text())  # type: ignore[no-any-return]
    except OSError:
        return None
