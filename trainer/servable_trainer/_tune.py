"""The search for hyperparameters."""

from __future__ import annotations

import contextlib
import io
import json
import logging
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import keras
import keras_tuner

from servable_client import ServableError
from servable_client._console import print_table, say
from servable_trainer._model import ImageClassifier, plain
from servable_trainer._progress import EpochLines

if TYPE_CHECKING:
    from pathlib import Path

    from servable_trainer._dataset import Dataset

_log = logging.getLogger("servable.trainer")


class TuneError(ServableError):
    """A search cannot be made, or a file holds none."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One point of the space, and how good it was.

    Attributes:
        hyperparameters: The point.
        validation_accuracy: Its accuracy on the validation pictures, 0 to 1.
    """

    hyperparameters: dict[str, Any]
    validation_accuracy: float


class _Search(keras_tuner.RandomSearch):  # type: ignore[misc]
    """Random search (Bergstra and Bengio 2012) that says which trial it is at."""

    def on_trial_begin(self, trial: keras_tuner.engine.trial.Trial) -> None:
        super().on_trial_begin(trial)
        say(
            f"trial {int(trial.trial_id) + 1}/{self.oracle.max_trials}  "
            f"{_one_line(trial.hyperparameters.values)}"
        )


def _one_line(values: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in sorted(values.items())
    )


def tune(
    dataset: Dataset,
    *,
    directory: Path,
    trials: int = 10,
    epochs: int = 2,
    subset: int = 12_000,
    seed: int = 0,
) -> list[Trial]:
    """Search for hyperparameters on part of the training pictures.

    Args:
        dataset: Its training part alone is looked at.
        directory: Where KerasTuner keeps the trials; what was there is replaced.
        trials: How many points of the space to try.
        epochs: How long each is trained.
        subset: How many pictures each learns from; a fifth as many validate it.
        seed: The same seed tries the same points.

    Returns:
        The trials, best first.

    Raises:
        TuneError: `directory` cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TuneError(f"cannot write to {directory}: {error.strerror}") from error
    fit, validation = dataset.split(seed=seed)
    fit, validation = fit.first(subset), validation.first(max(subset // 5, 1))
    keras.utils.set_random_seed(seed)
    # KerasTuner prints where it keeps its files; a person at the command has been told.
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        search = _Search(
            ImageClassifier(size=fit.images.shape[1:], classes=len(dataset.labels)),
            objective=keras_tuner.Objective("val_accuracy", "max"),
            max_trials=trials,
            seed=seed,
            directory=directory,
            project_name="search",
            overwrite=True,
        )
        search.search(
            fit,
            validation_data=validation,
            epochs=epochs,
            seed=seed,
            callbacks=[EpochLines(prefix="  ")],
        )
    _log.debug("KerasTuner printed: %s", printed.getvalue())
    return [
        Trial(
            hyperparameters=plain(trial.hyperparameters.values),
            validation_accuracy=float(trial.score),
        )
        for trial in search.oracle.get_best_trials(trials)
    ]


def save_trials(directory: Path, trials: list[Trial]) -> Path:
    """Write the trials, best first, where `load_hyperparameters` reads them."""
    path = directory / "trials.json"
    path.write_text(json.dumps([asdict(trial) for trial in trials], indent=2) + "\n")
    return path


def load_hyperparameters(path: Path) -> dict[str, Any]:
    """The best trial's hyperparameters in a file of trials, or the object that a file holds.

    Raises:
        TuneError: The file holds neither.
    """
    try:
        content = json.loads(path.read_text())
        values = content[0]["hyperparameters"] if isinstance(content, list) else content
        return dict(values)
    except (OSError, ValueError, TypeError, KeyError, IndexError) as error:
        raise TuneError(
            f"{path} holds no hyperparameters: {error}", hint="`servable tune` writes such a file"
        ) from error


def print_trials(trials: list[Trial]) -> None:
    """Print them as a table."""
    print_table(
        ("rank", "validation accuracy", "hyperparameters"),
        [
            (rank, trial.validation_accuracy, _one_line(trial.hyperparameters))
            for rank, trial in enumerate(trials, 1)
        ],
    )
