"""Checkpoints: an interrupted training resumes and ends with the same weights."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import time
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import keras
import numpy as np

from servable_serving.core.errors import FolderError
from servable_serving.core.files import atomic_write, check_absent
from servable_serving.core.json_text import parse_json
from servable_serving.core.locks import locked_if_free
from servable_trainer.training.run import RunError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SETTINGS, _STATE, _BEST, _LOCK = "settings.json", "state.json", "best.npz", "lock"


class Checkpoints:
    """A directory that holds a training after its last finished epoch.

    Every file is written atomically, and the weights first: whenever the process ends, the state
    names weights that belong to it.

    Attributes:
        folder: The directory.
        epochs: Metrics of each finished epoch.
        seconds: Time that they took.
        cpu_seconds: Processor time that they took; None if it was not measured for all of them.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.epochs: list[dict[str, float]] = []
        self.seconds = 0.0
        self.cpu_seconds: float | None = 0.0
        self._begun_now = False

    def begin(self, settings: dict[str, Any], *, restart: bool) -> None:
        """Start a training, or read the state of one that was interrupted.

        Args:
            settings: What determines the weights; must equal that of the interrupted training.
            restart: Discard what is there.

        Raises:
            RunError: The settings differ, or what is there cannot be read.
        """
        if restart:
            for path in self.folder.iterdir():
                if path.name != _LOCK:
                    path.unlink()
        path = self.folder / _SETTINGS
        try:
            before = parse_json(path.read_text())
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
            raise self._refusal(f"it was started with another {' and '.join(sorted(differing))}")
        try:
            state = parse_json((self.folder / _STATE).read_text())
            self.epochs, self.seconds = state["epochs"], state["seconds"]
            # A checkpoint of an earlier version does not have it.
            self.cpu_seconds = state.get("cpu_seconds")
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self._refusal(f"its state cannot be read: {error}") from error

    def _refusal(self, why: str) -> RunError:
        return RunError(
            f"cannot resume the training in {self.folder}: {why}",
            hint="start over with --restart, or choose another directory with --output",
        )

    @property
    def holds_nothing(self) -> bool:
        """Whether there is nothing to resume."""
        return self._begun_now and not self.epochs

    def load(self, model: keras.Model) -> None:
        """Restore `model` and its optimizer as they were after the last finished epoch.

        Raises:
            RunError: The weights are missing or damaged.
        """
        if not self.epochs:
            return
        self._read(self._weights(len(self.epochs)), model)

    def _read(self, path: Path, model: keras.Model) -> None:
        try:
            with np.load(path) as arrays:
                for index, variable in enumerate(_variables(model)):
                    variable.assign(arrays[f"arr_{index}"])
        except (OSError, ValueError, KeyError, BadZipFile) as error:
            raise self._refusal(f"its weights cannot be read: {error}") from error

    def load_best(self, model: keras.Model) -> None:
        """Restore the weights with the lowest validation loss."""
        self._read(self.folder / _BEST, model)

    def out_of_patience(self, patience: int | None) -> bool:
        """Whether the validation loss has not improved for `patience` epochs.

        Raises:
            RunError: An epoch has no validation loss.
        """
        if patience is not None and any("val_loss" not in epoch for epoch in self.epochs):
            raise RunError("the training gives no val_loss, which --patience goes by")
        return patience is not None and len(self.epochs) - _best_epoch(self.epochs) > patience

    def save(self, model: keras.Model, epochs: list[dict[str, float]], clock: FitClock) -> None:
        """Save `model` and its optimizer after an epoch.

        Raises:
            OSError: They cannot be written; the previous checkpoint stays.
        """
        # To memory first: HDF5, which Keras would use, crashes the process on a full disk.
        buffer = io.BytesIO()
        np.savez(buffer, *[keras.ops.convert_to_numpy(one) for one in _variables(model)])
        weights = self._weights(len(epochs))
        atomic_write(weights, buffer.getvalue())
        if "val_loss" in epochs[-1] and _best_epoch(epochs) == len(epochs):
            atomic_write(self.folder / _BEST, buffer.getvalue())
        # Last: the weights that it names exist, and an epoch that it does not name is repeated.
        seconds, cpu_seconds = clock.read()
        state = {"epochs": epochs, "seconds": seconds, "cpu_seconds": cpu_seconds}
        atomic_write(self.folder / _STATE, json.dumps(state, indent=1))
        self.epochs, self.seconds, self.cpu_seconds = list(epochs), seconds, cpu_seconds
        for old in self.folder.glob("epoch-*.npz"):
            if old != weights:
                old.unlink()

    def _weights(self, count: int) -> Path:
        return self.folder / f"epoch-{count}.npz"


class FitClock:
    """Time that a training has taken, in all processes that it ran in."""

    def __init__(self, before: Checkpoints) -> None:
        self._began = time.monotonic() - before.seconds
        self._began_cpu = (
            None if before.cpu_seconds is None else time.process_time() - before.cpu_seconds
        )

    def read(self) -> tuple[float, float | None]:
        """Seconds, and seconds of processor time if those are known."""
        cpu = None if self._began_cpu is None else time.process_time() - self._began_cpu
        return time.monotonic() - self._began, cpu


@contextlib.contextmanager
def checkpoints(target: Path) -> Iterator[Checkpoints]:
    """The checkpoints of a training that will become `target`; deleted when it succeeds.

    Raises:
        FolderError: `target` exists, or its parent directory cannot be written.
        RunError: Another process trains there.
    """
    check_absent(target)
    folder = target.with_name(f".{target.name}.training")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FolderError(f"cannot write to {target.parent}: {error.strerror}") from error
    with locked_if_free(folder / _LOCK) as free:
        if not free:
            raise RunError(f"another process is training {target}")
        kept = Checkpoints(folder)
        try:
            yield kept
        except BaseException:
            if kept.holds_nothing:
                shutil.rmtree(folder, ignore_errors=True)
            raise
        shutil.rmtree(folder, ignore_errors=True)


class KeepEpochs(keras.callbacks.Callback):  # type: ignore[misc]
    """Saves a checkpoint after each epoch, and stops the training early."""

    def __init__(self, kept: Checkpoints, patience: int | None) -> None:
        super().__init__()
        self._kept = kept
        self._clock = FitClock(kept)
        self._patience = patience

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Save the checkpoint.

        Raises:
            RunError: It cannot be written.
        """
        done = {name: float(value) for name, value in (logs or {}).items()}
        try:
            self._kept.save(self.model, [*self._kept.epochs[:epoch], done], self._clock)
        except OSError as error:
            raise RunError(
                f"cannot write to {self._kept.folder}: {error.strerror or error}",
                hint="the same command resumes after the last saved epoch",
            ) from error
        if self._kept.out_of_patience(self._patience):
            self.model.stop_training = True


def _variables(model: keras.Model) -> list[keras.Variable]:
    """All state that the next epoch depends on: weights, layers' seeds, the optimizer's."""
    # A training loop of a user's own may keep its optimizer to itself.
    return [*model.variables, *(model.optimizer.variables if model.compiled else ())]


def _best_epoch(epochs: list[dict[str, float]]) -> int:
    """The number of the epoch with the lowest validation loss, from 1; 0 before any."""
    losses = [epoch["val_loss"] for epoch in epochs]
    return losses.index(min(losses)) + 1 if losses else 0
