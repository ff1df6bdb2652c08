"""A training run on disk: a folder with the network and how it came to be."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

from servable_client import ServableError

if TYPE_CHECKING:
    from pathlib import Path

    import keras

    from servable_trainer.scoring.scores import Evaluation

MODEL, _RECORD, _EVALUATION = "model.keras", "run.json", "evaluation.json"


class RunError(ServableError):
    """A folder is no training run, or not one that fits."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """How a network came to be.

    Attributes:
        dataset: The dataset's name.
        checksums: SHA-256 of the dataset's files, by file name.
        labels: The name of each class, by its number.
        size: Height and width of a picture, and 3 where it is in colour.
        recipe: The name of the recipe whose family of networks it is of.
        hyperparameters: What the network was built from.
        seed: What its weights and batches were drawn with.
        epochs: One entry an epoch: loss and accuracy, and validation's where there was any.
        fitted: How many pictures it learnt from.
        validated: How many pictures validated it; 0 where all were learnt from.
        seconds: How long the fit took.
        started_from: The run that it went on from, or None.
        temperature: What the logits are divided by, which the weights hold already.
        calibrated: How many validation pictures that was fitted to; 0 where it was not fitted, and
            is 1 or that of the run that it went on from.
    """

    dataset: str
    checksums: dict[str, str]
    labels: list[str]
    size: tuple[int, ...]
    recipe: str
    hyperparameters: dict[str, Any]
    seed: int
    epochs: list[dict[str, float]]
    fitted: int
    validated: int
    seconds: float
    started_from: dict[str, Any] | None = field(default=None)
    temperature: float = 1.0
    calibrated: int = 0

    @property
    def validation(self) -> dict[str, float] | None:
        """Loss and accuracy on the validation pictures after the last epoch."""
        if not self.validated or not self.epochs:
            return None
        last = self.epochs[-1]
        return {"loss": last["val_loss"], "accuracy": last["val_accuracy"]}

    def save(self, directory: Path, model: keras.Model) -> None:
        """Write the run into a folder that is there."""
        model.save(directory / MODEL)
        (directory / _RECORD).write_text(json.dumps(asdict(self), indent=2) + "\n")


def load_run(directory: Path) -> tuple[Run, keras.Model]:
    """Read a run.

    Raises:
        RunError: `directory` holds none.
    """
    import keras

    try:
        record = json.loads((directory / _RECORD).read_text())
        run = Run(**{**record, "size": tuple(record["size"])})
        model = keras.saving.load_model(directory / MODEL)
    except (OSError, ValueError, TypeError, KeyError, BadZipFile) as error:
        raise RunError(
            f"{directory} holds no training run: {error}", hint="`servable train` writes one"
        ) from error
    return run, model


def save_evaluation(directory: Path, evaluation: Evaluation) -> None:
    """Keep an evaluation beside the run that it is of, for the manifest.

    Raises:
        RunError: It cannot be written.
    """
    path = directory / _EVALUATION
    try:
        path.write_text(json.dumps(asdict(evaluation), indent=2) + "\n")
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror}") from error


def load_evaluation(directory: Path) -> dict[str, Any] | None:
    """The evaluation of a run; None where there was none.

    Raises:
        RunError: It is damaged.
    """
    path = directory / _EVALUATION
    try:
        return json.loads(path.read_text())  # type: ignore[no-any-return]
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise RunError(
            f"{path} cannot be read: {error}", hint=f"servable evaluate {directory}"
        ) from error
