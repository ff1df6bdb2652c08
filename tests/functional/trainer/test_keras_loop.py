"""The loop over trials, with a source that is a list. KerasTuner imports Keras."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import keras_tuner
import pytest
from keras_tuner.engine.trial import Trial, TrialStatus

from servable_trainer.tuning import loop
from servable_trainer.tuning.loop import signals_stop, work
from servable_trainer.tuning.project import SearchBudget, SearchSettings
from servable_trainer.tuning.protocol import Outcome, StopSignal, TrialCancelled

if TYPE_CHECKING:
    from collections.abc import Callable

DONE = Outcome(metrics={"val_accuracy": 0.5})


def trial(name: str, status: str = TrialStatus.RUNNING) -> Trial:
    return Trial(keras_tuner.HyperParameters(), trial_id=name, status=status)


class Source:
    """Hands out given trials, then STOPPED; notes what comes back."""

    def __init__(self, *trials: Trial) -> None:
        self._trials = list(trials)
        self.reported: list[tuple[str, Outcome]] = []
        self.returned: list[str] = []

    def next_trial(self) -> Trial:
        return self._trials.pop(0) if self._trials else trial("", TrialStatus.STOPPED)

    def report(self, trial: Trial, outcome: Outcome) -> None:
        self.reported.append((trial.trial_id, outcome))

    def return_trial(self, trial: Trial) -> None:
        self.returned.append(trial.trial_id)


def test_every_trial_is_run_and_reported() -> None:
    source = Source(trial("a"), trial("b"))
    work(source, lambda _: DONE, StopSignal())
    assert source.reported == [("a", DONE), ("b", DONE)]


def test_a_cancelled_trial_is_returned_and_the_loop_continues() -> None:
    def run(one: Trial) -> Outcome:
        if one.trial_id == "a":
            raise TrialCancelled
        return DONE

    source = Source(trial("a"), trial("b"))
    work(source, run, StopSignal())
    assert source.returned == ["a"]
    assert [name for name, _ in source.reported] == ["b"]


def test_an_idle_source_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "_IDLE_SECONDS", 0.0)
    source = Source(trial("", TrialStatus.IDLE), trial("a"))
    work(source, lambda _: DONE, StopSignal())
    assert [name for name, _ in source.reported] == ["a"]


def test_a_stop_before_the_first_trial_runs_none() -> None:
    stop, source = StopSignal(), Source(trial("a"))
    stop.request("minutes")
    work(source, lambda _: DONE, stop)
    assert not source.reported


def test_a_stop_during_a_trial_starts_no_other() -> None:
    stop, source = StopSignal(), Source(trial("a"), trial("b"))

    def run(_: Trial) -> Outcome:
        stop.request("minutes")
        return DONE

    work(source, run, stop)
    assert [name for name, _ in source.reported] == ["a"]


def test_the_cancellation_of_a_trial_does_not_cancel_the_next() -> None:
    stop, source = StopSignal(), Source(trial("a"), trial("b"))

    def run(one: Trial) -> Outcome:
        if one.trial_id == "a":
            stop.cancel_trial()
        stop.raise_if_cancelled()
        return DONE

    work(source, run, stop)
    assert source.returned == ["a"]
    assert [name for name, _ in source.reported] == ["b"]


def test_an_error_of_the_runner_ends_the_loop() -> None:
    def run(_: Trial) -> Outcome:
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        work(Source(trial("a")), run, StopSignal())


def test_the_first_reason_to_stop_is_kept() -> None:
    stop = StopSignal()
    stop.request("minutes")
    stop.request("disk")
    assert stop.reason == "minutes"


@pytest.mark.parametrize("act", [lambda s: s.request("x"), lambda s: s.cancel_trial()])
def test_a_request_cancels_the_trial(act: Callable[[StopSignal], None]) -> None:
    stop = StopSignal()
    stop.raise_if_cancelled()
    act(stop)
    with pytest.raises(TrialCancelled):
        stop.raise_if_cancelled()


def test_wait_returns_at_once_after_a_request() -> None:
    stop = StopSignal()
    stop.request("x")
    stop.wait(600)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_requests_a_stop(number: signal.Signals) -> None:
    stop, said = StopSignal(), list[str]()
    before = signal.getsignal(number)
    with signals_stop(stop, said.append):
        os.kill(os.getpid(), number)
    assert (stop.reason, stop.number, len(said)) == ("interrupted", number, 1)
    assert signal.getsignal(number) is before


def test_a_second_signal_ends_the_process() -> None:
    with signals_stop(StopSignal(), lambda _: None):
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_the_status_of_an_outcome() -> None:
    assert DONE.status == TrialStatus.COMPLETED
    assert Outcome(notes={"error": "x"}).status == TrialStatus.FAILED


@pytest.mark.parametrize(("tuner", "epochs"), [("random", 2), ("bayesian", 2), ("hyperband", 9)])
def test_default_epochs(tuner: str, epochs: int) -> None:
    assert SearchSettings(tuner=tuner).epochs == epochs


def test_given_epochs_are_kept() -> None:
    assert SearchSettings(tuner="hyperband", epochs=3).epochs == 3


@pytest.mark.parametrize(
    ("tuner", "trials", "minutes", "limit"),
    [
        ("random", None, None, 10),
        ("random", None, 1.0, None),
        ("random", 4, None, 4),
        ("hyperband", None, None, None),
    ],
)
def test_default_budget(
    tuner: str, trials: int | None, minutes: float | None, limit: int | None
) -> None:
    budget = SearchBudget.of(SearchSettings(tuner=tuner), trials, minutes)
    assert (budget.trials, budget.minutes) == (limit, minutes)


def test_a_budget_of_minutes_is_used_up() -> None:
    budget = SearchBudget(minutes=0.5)
    assert not budget.over(29.9)
    assert budget.over(30)
    assert not SearchBudget(trials=1).over(1e9)


@pytest.mark.parametrize(
    ("budget", "text"),
    [
        (SearchBudget(trials=1), "1 trial"),
        (SearchBudget(trials=3, minutes=1.5), "3 trials or 1.5 minutes"),
        (SearchBudget(), "one pass"),
    ],
)
def test_a_budget_in_words(budget: SearchBudget, text: str) -> None:
    assert str(budget) == text
