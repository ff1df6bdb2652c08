"""The loop that runs trials one after the other until there are no more or a stop is requested."""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import TYPE_CHECKING

from keras_tuner.engine.trial import TrialStatus

from servable_trainer.tuning.protocol import StopSignal, TrialCancelled, TrialSource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from keras_tuner.engine.trial import Trial

    from servable_trainer.tuning.protocol import Outcome

# How long an idle worker waits before it polls again.
_IDLE_SECONDS = 0.5


@contextlib.contextmanager
def signals_stop(stop: StopSignal, tell: Callable[[str], None]) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end the search only; a second signal ends the process.

    Args:
        stop: Receives the request.
        tell: Prints a line.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(number: int, _frame: object) -> None:
        if stop.number is not None:
            raise KeyboardInterrupt
        stop.number = number
        stop.request("interrupted")
        tell("stopping after saving the finished trials; press Ctrl-C again to quit at once")

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def work(source: TrialSource, run: Callable[[Trial], Outcome], stop: StopSignal) -> None:
    """Run trials until there are no more, or a stop is requested."""
    while not stop.reason:
        trial = source.next_trial()
        if trial.status == TrialStatus.STOPPED:
            return
        if trial.status == TrialStatus.IDLE:
            stop.wait(_IDLE_SECONDS)
            continue
        stop.begin_trial()
        try:
            outcome = run(trial)
        except TrialCancelled:
            source.return_trial(trial)
        else:
            source.report(trial, outcome)
