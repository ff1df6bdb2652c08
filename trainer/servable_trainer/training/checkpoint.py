"""A training that was broken off, and goes on as it would have."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import shutil
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import keras
import numpy as np

from servable_serving.core.errors import FolderError
from servable_serving.core.files import atomic_write, check_absent
from servable_trainer.training.run import RunError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_SETTINGS, _STATE, _BEST, _LOCK = "settings.json", "state.json", "best.npz", "lock"


class Checkpoints:
    """A folder that holds a training after its last whole epoch.

    Each file is whole, and the weights come first: whenever the process ends, the state names
    weights that belong to it.

    Attributes:
        folder: Where they are.
        epochs: What each finished epoch measured.
        seconds: How long they took.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.epochs: list[dict[str, float]] = []
        self.seconds = 0.0
        self._begun_now = False

    def begin(self, settings: dict[str, Any], *, restart: bool) -> None:
        """Read what is there; what `settings` says must be what was begun with.

        Raises:
            RunError: Something differs.
        """
        if restart:
            for path in self.folder.iterdir():
                if path.name != _LOCK:
                    path.unlink()
        path = self.folder / _SETTINGS
        try:
            before = json.loads(path.read_text())
        except FileNotFoundError:
            self._begun_now = True
            atomic_write(path, json.dumps(settings, indent=1))
            return
        except (OSError, ValueError) as error:
            raise self._refusal(f"its settings cannot be read: {error}") from error
        differing = [
            key
            for key in {**before, **settings}
            if before.get(key) != json.loads(json.dumps(settings.get(key)))
        ]
        if differing:
            raise self._refusal(f"it was begun with another {' and '.join(sorted(differing))}")
        try:
            state = json.loads((self.folder / _STATE).read_text())
            self.epochs, self.seconds = state["epochs"], state["seconds"]
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self._refusal(f"its state cannot be read: {error}") from error

    def _refusal(self, why: str) -> RunError:
        return RunError(
            f"cannot go on with the training in {self.folder}: {why}",
            hint="--restart begins it anew; or name another folder with --output",
        )

    @property
    def holds_nothing(self) -> bool:
        """Whether there is nothing to go on with."""
        return self._begun_now and not self.epochs

    def load(self, model: keras.Model) -> None:
        """Give `model` and its optimizer what they had after the last whole epoch.

        Raises:
            RunError: The weights are missing or damaged.
        """
        if not self.epochs:
            return
        self._read(self._weights(len(self.epochs)), model)

    def _read(self, path: Path, model: keras.Model) -> None:
        model.optimizer.build(model.trainable_variables)
        try:
            with np.load(path) as arrays:
                for index, variable in enumerate(_variables(model)):
                    variable.assign(arrays[f"arr_{index}"])
        except (OSError, ValueError, KeyError, BadZipFile) as error:
            raise self._refusal(f"its weights cannot be read: {error}") from error

    def load_best(self, model: keras.Model) -> None:
        """Give `model` the weights that validated best."""
        self._read(self.folder / _BEST, model)

    def out_of_patience(self, patience: int | None) -> bool:
        """Whether the validation loss has not fallen for `patience` epochs."""
        return patience is not None and len(self.epochs) - _best_epoch(self.epochs) > patience

    def save(self, model: keras.Model, epochs: list[dict[str, float]], seconds: float) -> None:
        """Keep `model` and its optimizer after an epoch.

        Raises:
            OSError: They cannot be written; what was kept before stays.
        """
        # By way of memory: HDF5, Keras' own way, brings the process down on a disk that is full.
        buffer = io.BytesIO()
        np.savez(buffer, *[keras.ops.convert_to_numpy(one) for one in _variables(model)])
        weights = self._weights(len(epochs))
        atomic_write(weights, buffer.getvalue())
        if "val_loss" in epochs[-1] and _best_epoch(epochs) == len(epochs):
            atomic_write(self.folder / _BEST, buffer.getvalue())
        # Last: what it names is there, and an epoch that it does not name is run again.
        state = {"epochs": epochs, "seconds": seconds}
        atomic_write(self.folder / _STATE, json.dumps(state, indent=1))
        self.epochs, self.seconds = list(epochs), seconds
        for old in self.folder.glob("epoch-*.npz"):
            if old != weights:
                old.unlink()

    def _weights(self, count: int) -> Path:
        return self.folder / f"epoch-{count}.npz"


@contextlib.contextmanager
def checkpoints(target: Path) -> Iterator[Checkpoints]:
    """The checkpoints of a training that is to become `target`; they go when the block ends well.

    Raises:
        FolderError: `target` exists, or its neighbourhood cannot be written.
        RunError: Another process trains there.
    """
    check_absent(target)
    folder = target.with_name(f".{target.name}.training")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / _LOCK).open("a")
    except OSError as error:
        raise FolderError(f"cannot write to {target.parent}: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RunError(f"another process trains for {target}") from error
        kept = Checkpoints(folder)
        try:
            yield kept
        except BaseException:
            if kept.holds_nothing:
                shutil.rmtree(folder, ignore_errors=True)
            raise
        shutil.rmtree(folder, ignore_errors=True)


class KeepEpochs(keras.callbacks.Callback):  # type: ignore[misc]
    """Saves a checkpoint after each epoch, and ends the training when patience has."""

    def __init__(
        self, kept: Checkpoints, seconds: Callable[[], float], patience: int | None
    ) -> None:
        super().__init__()
        self._kept = kept
        self._seconds = seconds
        self._patience = patience

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Keep it."""
        done = {name: float(value) for name, value in (logs or {}).items()}
        self._kept.save(self.model, [*self._kept.epochs[:epoch], done], self._seconds())
        self.model.stop_training |= self._kept.out_of_patience(self._patience)


def _variables(model: keras.Model) -> list[keras.Variable]:
    """All that the next epoch depends on: weights, layers' seeds, the optimizer's state."""
    return [*model.variables, *model.optimizer.variables]


def _best_epoch(epochs: list[dict[str, float]]) -> int:
    """The number of the epoch that validated best, from 1; 0 before any."""
    losses = [epoch["val_loss"] for epoch in epochs]
    return losses.index(min(losses)) + 1 if losses else 0
