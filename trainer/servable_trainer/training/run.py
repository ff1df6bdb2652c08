"""A training run on disk: a directory with the network and the record of its training."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

from servable_client import ServableError
from servable_serving.core.json_text import parse_json
from servable_serving.exporter.keras_file import load_keras
from servable_serving.exporter.subclassed import with_inputs

if TYPE_CHECKING:
    from pathlib import Path

    import keras

    from servable_trainer.scoring.scores import Evaluation

MODEL, _RECORD, _EVALUATION = "model.keras", "run.json", "evaluation.json"


class RunError(ServableError):
    """A directory is not a training run, or not one that matches."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """The record of a training.

    Attributes:
        dataset: The dataset's name.
        checksums: SHA-256 of the dataset's files, by file name.
        labels: The name of each class, by its number.
        size: Height and width of an image, and 3 if it is in colour.
        recipe: The recipe that gave the family of networks.
        hyperparameters: What the network was built from.
        seed: Seed of the weights and the batches.
        epochs: Loss and accuracy of each epoch, and those on the validation images if any.
        fitted: Number of training images.
        validated: Number of validation images; 0 if all images were trained on.
        seconds: Duration of the fit, resumed parts added up.
        started_from: The run that was fine-tuned, or None.
        temperature: The divisor of the logits, already part of the weights.
        calibrated: Number of validation images that the temperature was fitted to; 0 if it was not
            fitted, and is 1 or that of the run that was fine-tuned.
        cpu_seconds: Processor time of the fit, all threads, resumed parts added up; None if it was
            not measured.
        model: The network of a user's own, MODULE:NAME; None if it is one of a recipe.
        inputs: How that network takes images and what it answers, as `ImageInputs`; None if it was
            trained on other data.
        custom_objects: The module that defines that network, if it has layers of its own; it is not
            imported unless a user names it.
        dtypes: Of that network's inputs which are not floats, as `dtypes_of` gives them.
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
    cpu_seconds: float | None = None
    model: str | None = None
    inputs: dict[str, Any] | None = None
    custom_objects: str | None = None
    dtypes: dict[str, str] = field(default_factory=dict)

    @property
    def validation(self) -> dict[str, float] | None:
        """Loss, accuracy and other metrics on the validation part after the last epoch."""
        last = self.epochs[-1] if self.epochs else {}
        return {
            name.removeprefix("val_"): value
            for name, value in sorted(last.items())
            if name.startswith("val_")
        } or None

    def save(self, directory: Path, model: keras.Model) -> None:
        """Write the run into an existing directory."""
        model.save(directory / MODEL)
        (directory / _RECORD).write_text(json.dumps(asdict(self), indent=2) + "\n")


def load_run(directory: Path, *, custom_objects: str | None = None) -> tuple[Run, keras.Model]:
    """Read a run.

    Args:
        directory: Its directory.
        custom_objects: Module that defines layers or functions of a network of a user's own.

    Raises:
        ExportError: The network of a user's own has others than Keras' layers, and they are not
            named, or are not those that it was trained with.
        RunError: `directory` does not hold one.
    """
    import keras

    run = load_record(directory)
    try:
        if run.model is not None:
            model = load_keras(directory / MODEL, custom_objects=custom_objects)
            return run, with_inputs(model, run.dtypes)
        return run, keras.saving.load_model(directory / MODEL)
    except (OSError, ValueError, TypeError, KeyError, BadZipFile) as error:
        raise _not_a_run(directory, error) from error


def load_record(directory: Path) -> Run:
    """Read the record of a run.

    Raises:
        RunError: `directory` does not hold one.
    """
    try:
        record = parse_json((directory / _RECORD).read_text())
        return Run(**{**record, "size": tuple(record["size"])})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise _not_a_run(directory, error) from error


def _not_a_run(directory: Path, error: Exception) -> RunError:
    return RunError(
        f"{directory} is not a training run: {error}", hint="`servable train` writes one"
    )


def save_evaluation(directory: Path, evaluation: Evaluation) -> None:
    """Save an evaluation in the run's directory, for the manifest.

    Raises:
        RunError: It cannot be written.
    """
    path = directory / _EVALUATION
    try:
        path.write_text(json.dumps(asdict(evaluation), indent=2) + "\n")
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror}") from error


def load_evaluation(directory: Path) -> dict[str, Any] | None:
    """The evaluation of a run; None if it was not evaluated.

    Raises:
        RunError: It is damaged.
    """
    path = directory / _EVALUATION
    try:
        return parse_json(path.read_text())  # type: ignore[no-any-return]
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise RunError(
            f"{path} cannot be read: {error}", hint=f"servable evaluate {directory}"
        ) from error
