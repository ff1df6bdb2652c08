"""Interfaces between the loop, the runner, a chief and a worker."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from keras_tuner.engine.trial import TrialStatus

if TYPE_CHECKING:
    from keras_tuner.engine.trial import Trial


class TrialCancelled(Exception):
    """A trial was interrupted, which says nothing about its hyperparameters."""


class StopSignal:
    """A request to end a search, from any thread or a signal handler.

    Attributes:
        reason: Why no further trial is started, or None.
        number: The signal that requested it, or None.
    """

    def __init__(self) -> None:
        self.reason: str | None = None
        self.number: int | None = None
        self._trial = False
        self._event = threading.Event()

    def request(self, reason: str) -> None:
        """End the search; the first reason is kept."""
        self.reason = self.reason or reason
        self._event.set()

    def begin_trial(self) -> None:
        """Forget the cancellation of the previous trial."""
        self._trial = False

    def cancel_trial(self) -> None:
        """End the current trial only."""
        self._trial = True

    def raise_if_cancelled(self) -> None:
        """Raise TrialCancelled if the current trial must end."""
        if self.reason or self._trial:
            raise TrialCancelled

    def wait(self, seconds: float) -> None:
        """Wait so long, or until the end is requested."""
        self._event.wait(seconds)


class TrialSource(Protocol):
    """Provides trials and takes their outcomes: a local oracle, or a remote chief."""

    def next_trial(self) -> Trial:
        """A trial to run; its status is IDLE if none is ready, STOPPED if none is left."""

    def report(self, trial: Trial, outcome: Outcome) -> None:
        """Take the outcome of a trial."""

    def return_trial(self, trial: Trial) -> None:
        """Take back a trial that was cancelled."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The outcome of a trial.

    Attributes:
        metrics: Metrics of its best epoch; empty if it failed.
        step: The number of that epoch.
        notes: What KerasTuner has no field for; includes `error` if it failed.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    step: int = 0
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def status(self) -> str:
        """The trial's status as KerasTuner names it."""
        return str(TrialStatus.COMPLETED if self.metrics else TrialStatus.FAILED)
