"""What the loop, the runner, a chief and a worker agree on."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from keras_tuner.engine.trial import TrialStatus

if TYPE_CHECKING:
    from keras_tuner.engine.trial import Trial


class TrialCancelled(Exception):
    """A trial was not let end; it says nothing about its hyperparameters."""


class Stop:
    """Why to end, once there is a reason; threads and signals may give it.

    Attributes:
        reason: Why no other trial is begun, or None.
        number: The signal that asked for it, or None.
    """

    def __init__(self) -> None:
        self.reason: str | None = None
        self.number: int | None = None
        self._trial = False
        self._event = threading.Event()

    def ask(self, reason: str) -> None:
        """End the search; the first reason counts."""
        self.reason = self.reason or reason
        self._event.set()

    def begin_trial(self) -> None:
        """Forget about the trial before."""
        self._trial = False

    def break_off(self) -> None:
        """End this trial alone."""
        self._trial = True

    def check(self) -> None:
        """Raise TrialCancelled where the trial that runs is not to go on."""
        if self.reason or self._trial:
            raise TrialCancelled

    def wait(self, seconds: float) -> None:
        """Wait so long, or until somebody asks."""
        self._event.wait(seconds)


class Desk(Protocol):
    """Where trials are got and brought back: an oracle here, or a chief elsewhere."""

    def ask(self) -> Trial:
        """A trial to run; one that is IDLE to ask again for, or STOPPED to end with."""

    def tell(self, trial: Trial, outcome: Outcome) -> None:
        """What came of it."""

    def give_back(self, trial: Trial) -> None:
        """It was broken off."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a trial.

    Attributes:
        metrics: What its best epoch measured; empty where it failed.
        step: Which epoch that was.
        notes: What to keep beside it; `error` among them where it failed.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    step: int = 0
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def status(self) -> str:
        """The trial's status in KerasTuner's words."""
        return str(TrialStatus.COMPLETED if self.metrics else TrialStatus.FAILED)
