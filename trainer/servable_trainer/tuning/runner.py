"""Training of a trial's network."""

from __future__ import annotations

import gc
import io
import math
import time
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import keras
import numpy as np

from servable_serving.core.files import atomic_write
from servable_trainer.networks.precision import dtype_policy
from servable_trainer.tuning.protocol import Outcome, TrialCancelled
from servable_trainer.tuning.trials import TuneError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import keras_tuner
    from keras_tuner.engine.trial import Trial

    from servable_trainer.data.dataset import Pictures
    from servable_trainer.networks.classifier import ImageClassifier
    from servable_trainer.tuning.progress import SearchProgress

OBJECTIVE = "val_accuracy"
_WEIGHTS = "weights.npz"
_VALIDATION_BATCH = 500


@dataclass(frozen=True, kw_only=True)
class Runner:
    """Trains a trial's network.

    Attributes:
        classifier: The family of networks.
        fit: Training images.
        validation: Validation images.
        epochs: Number of epochs, unless the trial has its own.
        seed: Combined with a trial's number, the trial's seed.
        folder: Directory of weights that later trials may continue from.
        progress: Receives the progress.
        heartbeat: Called after every batch; raises TrialCancelled to end the trial.
    """

    classifier: ImageClassifier
    fit: Pictures
    validation: Pictures
    epochs: int
    seed: int
    folder: Path
    progress: SearchProgress
    heartbeat: Callable[[], None]

    def __call__(self, trial: Trial) -> Outcome:
        """Train the network of a trial.

        Raises:
            TrialCancelled: The trial was cancelled.
            TuneError: Its weights cannot be written.
        """
        began = time.monotonic()
        values = trial.hyperparameters.values
        self.progress.trial_started(trial.trial_id, values)
        # The same trial gives the same result, on whichever worker and however often it runs.
        keras.utils.set_random_seed((self.seed + 7919 * int(trial.trial_id)) % (1 << 32))
        keras.backend.clear_session()
        gc.collect()
        notes: dict[str, Any] = {"epochs": []}
        try:
            with dtype_policy("auto"):
                model, first = self._network(trial.hyperparameters)
            notes["first_epoch"] = first
            history = self._train(trial, model, first)
            notes["epochs"] = _epochs(history)
        except TrialCancelled:
            raise
        except Exception as error:  # noqa: BLE001 a network may fail in any way
            return Outcome(
                notes={
                    **notes,
                    "seconds": round(time.monotonic() - began, 1),
                    "error": _sentence(error),
                    "traceback": traceback.format_exc(),
                }
            )
        if values.get("tuner/epochs", self.epochs) < self.epochs:
            self._keep(trial.trial_id, model)
        best = max(range(len(notes["epochs"])), key=lambda n: notes["epochs"][n][OBJECTIVE])
        notes["seconds"] = round(time.monotonic() - began, 1)
        return Outcome(metrics=notes["epochs"][best], step=first + best, notes=notes)

    def _network(self, hp: keras_tuner.HyperParameters) -> tuple[keras.Model, int]:
        """The network, and its number of earlier epochs: those of the trial that it continues."""
        model = self.classifier.build(hp)
        past = hp.values.get("tuner/trial_id")
        if past is None:
            return model, 0
        try:
            with np.load(self._weights(past)) as kept:
                model.set_weights([kept[name] for name in kept.files])
        except (OSError, ValueError, KeyError, BadZipFile):
            # On another machine, for example: it takes longer and is as good.
            self.progress.say(f"  no weights of trial {past} here; training from scratch")
            return self.classifier.build(hp), 0
        return model, hp.values["tuner/initial_epoch"]

    def _train(self, trial: Trial, model: keras.Model, first: int) -> Any:
        return self.classifier.fit(
            trial.hyperparameters,
            model,
            self.fit,
            validation_data=self.validation,
            validation_batch_size=_VALIDATION_BATCH,
            epochs=trial.hyperparameters.values.get("tuner/epochs", self.epochs),
            initial_epoch=first,
            seed=self.seed,
            callbacks=[_Report(trial.trial_id, self.progress, self.heartbeat)],
        )

    def _weights(self, name: str) -> Path:
        return self.folder / f"trial_{name}" / _WEIGHTS

    def _keep(self, name: str, model: keras.Model) -> None:
        path = self._weights(name)
        buffer = io.BytesIO()
        np.savez(buffer, *model.get_weights())
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(path, buffer.getvalue())
        except OSError as error:
            raise TuneError(
                f"cannot write {path}: {error.strerror or error}",
                hint="finished trials are kept: free some space and run the same command to resume",
            ) from error


class _Report(keras.callbacks.Callback):  # type: ignore[misc]
    """Reports batches and epochs, and checks whether the trial was cancelled."""

    def __init__(self, name: str, progress: SearchProgress, heartbeat: Callable[[], None]) -> None:
        super().__init__()
        self._name, self._progress, self._heartbeat = name, progress, heartbeat
        self._began = time.monotonic()

    # Keras calls these with `logs` by position or name; the parameters are its own.
    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        self._progress.batch(self._name, batch + 1, self.params["steps"])
        self._heartbeat()

    def on_test_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        self._heartbeat()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        self._began = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        measured = {name: float(value) for name, value in (logs or {}).items()}
        self._progress.epoch(
            self._name,
            epoch + 1,
            self.params["epochs"],
            measured,
            time.monotonic() - self._began,
        )


def _epochs(history: Any) -> list[dict[str, float]]:
    measured = history.history
    count = len(measured[OBJECTIVE])
    epochs = [{name: float(values[n]) for name, values in measured.items()} for n in range(count)]
    if not all(math.isfinite(epoch[OBJECTIVE]) for epoch in epochs):
        raise ValueError("validation accuracy is NaN")
    # JSON cannot represent the others.
    return [{k: v for k, v in epoch.items() if math.isfinite(v)} for epoch in epochs]


def _sentence(error: Exception) -> str:
    """An exception as one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    return text if len(text) <= 300 else f"{text[:297]}..."
