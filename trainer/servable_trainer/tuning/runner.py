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
from servable_trainer.networks.own_network import check_objective, ensure_built, epochs_of
from servable_trainer.networks.precision import dtype_policy
from servable_trainer.scoring.metric_names import in_words
from servable_trainer.tuning.protocol import Outcome, TrialCancelled
from servable_trainer.tuning.trials import TuneError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import keras_tuner
    from keras_tuner.engine.trial import Trial

    from servable_trainer.networks.classifier import ImageClassifier
    from servable_trainer.networks.own_network import OwnNetwork
    from servable_trainer.tuning.progress import SearchProgress

_WEIGHTS = "weights.npz"


@dataclass(frozen=True, kw_only=True)
class Runner:
    """Trains a trial's network.

    Attributes:
        network: Builds and trains the networks.
        objective: The metric that is optimized.
        objective_given: Whether a user named it.
        fit: Training part, as the network takes it.
        validation: Validation part.
        epochs: Number of epochs, unless the trial has its own.
        seed: Combined with a trial's number, the trial's seed.
        folder: Directory of weights that later trials may continue from.
        progress: Receives the progress.
        heartbeat: Called after every batch; raises TrialCancelled to end the trial.
    """

    network: ImageClassifier | OwnNetwork
    objective: keras_tuner.Objective
    objective_given: bool
    fit: Any
    validation: Any
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
            with dtype_policy(self.network.precision):
                model, first = self._build(trial.hyperparameters)
            notes["first_epoch"] = first
            report = _Report(trial.trial_id, self.progress, self.heartbeat)
            result = self._train(trial, model, first, report)
            notes["epochs"] = self._epochs(result, report)
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
        scores = [epoch[self.objective.name] for epoch in notes["epochs"]]
        best = scores.index((max if self.objective.direction == "max" else min)(scores))
        notes["seconds"] = round(time.monotonic() - began, 1)
        return Outcome(metrics=notes["epochs"][best], step=first + best, notes=notes)

    def _build(self, hp: keras_tuner.HyperParameters) -> tuple[keras.Model, int]:
        """The network, and its number of earlier epochs: those of the trial that it continues."""
        model = self.network.build(hp)
        past = hp.values.get("tuner/trial_id")
        if past is None:
            return model, 0
        ensure_built(model, self.fit)
        try:
            with np.load(self._weights(past)) as kept:
                model.set_weights([kept[name] for name in kept.files])
        except (OSError, ValueError, KeyError, BadZipFile):
            # On another machine, for example: it takes longer and is as good.
            self.progress.say(f"  no weights of trial {past} here; training from scratch")
            return self.network.build(hp), 0
        return model, hp.values["tuner/initial_epoch"]

    def _train(self, trial: Trial, model: keras.Model, first: int, report: _Report) -> Any:
        return self.network.fit(
            trial.hyperparameters,
            model,
            self.fit,
            validation_data=self.validation,
            epochs=trial.hyperparameters.values.get("tuner/epochs", self.epochs),
            initial_epoch=first,
            seed=self.seed,
            callbacks=[report],
        )

    def _epochs(self, result: Any, report: _Report) -> list[dict[str, float]]:
        name = self.objective.name
        epochs = epochs_of(result, report.logs, objective=name if self.objective_given else None)
        check_objective(epochs, name)
        if not all(math.isfinite(epoch[name]) for epoch in epochs):
            raise ValueError(f"{in_words(name)} is NaN")
        # JSON cannot represent the others.
        return [{k: v for k, v in epoch.items() if math.isfinite(v)} for epoch in epochs]

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
        self.logs: list[dict[str, float]] = []

    # Keras calls these with `logs` by position or name; the parameters are its own.
    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        # A training loop of a user's own need not have set the parameters.
        self._progress.batch(self._name, batch + 1, (self.params or {}).get("steps"))
        self._heartbeat()

    def on_test_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        self._heartbeat()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        self._began = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        measured = {name: float(value) for name, value in (logs or {}).items()}
        self.logs.append(measured)
        self._progress.epoch(
            self._name,
            epoch + 1,
            (self.params or {}).get("epochs"),
            measured,
            time.monotonic() - self._began,
        )


def _sentence(error: Exception) -> str:
    """An exception as one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    return text if len(text) <= 300 else f"{text[:297]}..."
