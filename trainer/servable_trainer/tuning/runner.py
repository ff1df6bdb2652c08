"""Training the network of a trial."""

from __future__ import annotations

import gc
import math
import time
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import keras
import numpy as np

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
    from servable_trainer.tuning.watch import Watch

OBJECTIVE = "val_accuracy"
_WEIGHTS = "weights.npz"
_VALIDATION_BATCH = 500


@dataclass(frozen=True, kw_only=True)
class Runner:
    """Trains a trial's network.

    Attributes:
        classifier: The network.
        fit: What to learn from.
        validation: What to validate with.
        epochs: How long, unless the trial says.
        seed: With a trial's number, the seed of all that is drawn in it.
        folder: Where weights are kept that another trial may go on from.
        watch: Who is told.
        heartbeat: Called at every batch; raises TrialCancelled to end the trial.
    """

    classifier: ImageClassifier
    fit: Pictures
    validation: Pictures
    epochs: int
    seed: int
    folder: Path
    watch: Watch
    heartbeat: Callable[[], None]

    def __call__(self, trial: Trial) -> Outcome:
        """Run it.

        Raises:
            TrialCancelled: It was not let end.
            TuneError: Its weights cannot be written.
        """
        began = time.monotonic()
        values = trial.hyperparameters.values
        self.watch.began(trial.trial_id, values)
        # Of the same trial, the same result, whoever runs it and however often.
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
        except Exception as error:  # noqa: BLE001 whatever a network can fail with
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
        """The network, and how many epochs it has seen: those of the trial it goes on from."""
        model = self.classifier.build(hp)
        past = hp.values.get("tuner/trial_id")
        if past is None:
            return model, 0
        try:
            with np.load(self._weights(past)) as kept:
                model.set_weights([kept[name] for name in kept.files])
        except (OSError, ValueError, KeyError, BadZipFile):
            # On another machine, for example: longer, and as good.
            self.watch.say(f"  trial {past}'s weights are not here: from the beginning, then")
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
            callbacks=[_Report(trial.trial_id, self.watch, self.heartbeat)],
        )

    def _weights(self, name: str) -> Path:
        return self.folder / f"trial_{name}" / _WEIGHTS

    def _keep(self, name: str, model: keras.Model) -> None:
        path = self._weights(name)
        incoming = path.with_name(f"incoming-{path.name}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez(incoming, *model.get_weights())
            incoming.rename(path)
        except OSError as error:
            incoming.unlink(missing_ok=True)
            raise TuneError(
                f"cannot write {path}: {error.strerror or error}",
                hint="what had ended before is kept: make room, and the same command goes on",
            ) from error


class _Report(keras.callbacks.Callback):  # type: ignore[misc]
    """Tells who watches, and asks whether to go on."""

    def __init__(self, name: str, watch: Watch, heartbeat: Callable[[], None]) -> None:
        super().__init__()
        self._name, self._watch, self._heartbeat = name, watch, heartbeat
        self._began = time.monotonic()

    # Keras calls these with `logs` by position or name; the parameters are its own.
    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        self._watch.batch(self._name, batch + 1, self.params["steps"])
        self._heartbeat()

    def on_test_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        self._heartbeat()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        self._began = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        measured = {name: float(value) for name, value in (logs or {}).items()}
        self._watch.epoch(
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
        raise ValueError("its validation accuracy is no number")
    # What no number can be written in JSON as.
    return [{k: v for k, v in epoch.items() if math.isfinite(v)} for epoch in epochs]


def _sentence(error: Exception) -> str:
    """An exception in a line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    return text if len(text) <= 300 else f"{text[:297]}..."
