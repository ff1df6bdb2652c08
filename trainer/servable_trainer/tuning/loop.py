"""Trials one after the other, until nothing is left or somebody says stop."""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import TYPE_CHECKING

from keras_tuner.engine.trial import TrialStatus

from servable_trainer.tuning.protocol import Desk, Stop, TrialCancelled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from keras_tuner.engine.trial import Trial

    from servable_trainer.tuning.protocol import Outcome

# How long a worker that has nothing to do waits before it asks again.
_IDLE_SECONDS = 0.5


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
        except TrialCancelled:
            desk.give_back(trial)
        else:
            desk.tell(trial, outcome)
