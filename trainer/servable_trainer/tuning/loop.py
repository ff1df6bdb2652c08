"""Trials one after the other, until nothing is left or somebody says stop."""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import TYPE_CHECKING, Protocol

from keras_tuner.engine.trial import TrialStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from keras_tuner.engine.trial import Trial

    from servable_trainer.tuning.runner import Outcome

# How long a worker that has nothing to do waits before it asks again.
_IDLE_SECONDS = 0.5


class BrokenOff(Exception):
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
        """Raise BrokenOff where the trial that runs is not to go on."""
        if self.reason or self._trial:
            raise BrokenOff

    def wait(self, seconds: float) -> None:
        """Wait so long, or until somebody asks."""
        self._event.wait(seconds)


@contextlib.contextmanager
def signals_stop(stop: Stop, tell: Callable[[str], None]) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end the search and not the process; a second one ends that too.

    Args:
        stop: What to ask.
        tell: How to say so.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(number: int, _frame: object) -> None:
        if stop.number is not None:
            raise KeyboardInterrupt
        stop.number = number
        stop.ask("interrupted")
        tell("ending with the trials that are done; once more ends at once")

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Desk(Protocol):
    """Where trials are got and brought back: an oracle here, or a chief elsewhere."""

    def ask(self) -> Trial:
        """A trial to run; one that is IDLE to ask again for, or STOPPED to end with."""

    def tell(self, trial: Trial, outcome: Outcome) -> None:
        """What came of it."""

    def give_back(self, trial: Trial) -> None:
        """It was broken off."""


def work(desk: Desk, run: Callable[[Trial], Outcome], stop: Stop) -> None:
    """Run trials until there are no more, or `stop` has a reason."""
    while not stop.reason:
        trial = desk.ask()
        if trial.status == TrialStatus.STOPPED:
            return
        if trial.status == TrialStatus.IDLE:
            stop.wait(_IDLE_SECONDS)
            continue
        stop.begin_trial()
        try:
            outcome = run(trial)
        except BrokenOff:
            desk.give_back(trial)
        else:
            desk.tell(trial, outcome)
