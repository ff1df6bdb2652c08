"""The result of an oracle's trials, and how a search ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from keras_tuner.engine.trial import TrialStatus

from servable_trainer.networks.classifier import plain
from servable_trainer.tuning.trials import SearchResult, Trial, TuneError, save_trials, trials_of
from servable_trainer.tuning.trials_page import save_page

if TYPE_CHECKING:
    from servable_trainer.tuning.progress import SearchProgress
    from servable_trainer.tuning.project import SearchBudget
    from servable_trainer.tuning.protocol import StopSignal
    from servable_trainer.tuning.search_folder import SearchFolder

# After so many consecutive failures the next point would hardly fare better.
FAILURES = 3


class SearchFailed(TuneError):
    """A search ended early.

    Attributes:
        result: Its trials until then.
    """

    def __init__(self, message: str, *, result: SearchResult, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.result = result


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM ended a search; finished trials are saved and the search can be resumed.

    Attributes:
        result: Its trials until then; None for a worker, whose chief has them.
        status: The exit status: 128 plus the signal's number.
    """

    def __init__(self, result: SearchResult | None, status: int) -> None:
        super().__init__()
        self.result = result
        self.status = status


def report_resumed(
    oracle: Any, folder: SearchFolder, budget: SearchBudget, progress: SearchProgress
) -> None:
    """Report what an earlier part of the search did, if there was one."""
    if not oracle.trials:
        return
    done = completed(oracle)
    progress.set_best(done)
    progress.say(
        f"resuming the search in {folder.path}: {trials_of(len(done))} completed in"
        f" {folder.seconds / 60:.1f} minutes; budget: {budget}"
    )


def trial_of(oracle: Any, name: str) -> Trial:
    """One of KerasTuner's trials as ours."""
    trial, notes = oracle.trials[name], oracle.notes.get(name, {})
    values = plain(trial.hyperparameters.values)
    failed = trial.status != TrialStatus.COMPLETED
    return Trial(
        hyperparameters={k: v for k, v in values.items() if not k.startswith("tuner/")},
        score=None if failed else float(trial.score),
        name=name,
        status="failed" if failed else "completed",
        epochs=notes.get("epochs", []),
        first_epoch=notes.get("first_epoch", 0),
        continues=values.get("tuner/trial_id"),
        seconds=notes.get("seconds", 0.0),
        worker=notes.get("worker"),
        error=notes.get("error") if failed else None,
    )


def ended(oracle: Any) -> list[Trial]:
    """The finished trials, best first; those that failed come last."""
    finished = (TrialStatus.COMPLETED, TrialStatus.FAILED)
    trials = [
        trial_of(oracle, name) for name, one in oracle.trials.items() if one.status in finished
    ]
    sign = -1 if oracle.objective.direction == "max" else 1
    return sorted(trials, key=lambda one: (one.status != "completed", sign * (one.score or 0)))


def completed(oracle: Any) -> list[Trial]:
    """The trials that were completed, best first."""
    return [trial for trial in ended(oracle) if trial.status == "completed"]


def search_result(oracle: Any, folder: SearchFolder, reason: str) -> SearchResult:
    """The result of a search so far."""
    return SearchResult(
        trials=ended(oracle),
        ended=reason,
        seconds=round(folder.seconds, 1),
        search=folder.identity,
        space=oracle.hyperparameters.get_config()["space"],
        objective=oracle.objective.name,
        direction=oracle.objective.direction,
    )


def conclude(
    oracle: Any, folder: SearchFolder, stop: StopSignal, budget: SearchBudget
) -> SearchResult:
    """Write the results, and raise if the search ended early.

    Raises:
        Interrupted: A signal ended it.
        SearchFailed: Too many trials failed, or none was completed.
        TuneError: The results cannot be written.
    """
    full = budget.trials is not None and len(ended(oracle)) >= budget.trials
    reason = stop.reason or ("trials" if full else "space")
    if reason == "workers" and full:
        reason = "trials"  # the last worker left because nothing was left to do
    result = search_result(oracle, folder, reason)
    save_trials(folder.path, result)
    save_page(folder.path, result)
    if stop.number is not None:
        raise Interrupted(result, 128 + stop.number)
    if reason == "workers":
        raise SearchFailed(
            "no workers are left to run trials",
            result=result,
            hint="finished trials are kept; start the chief and workers again to resume",
        )
    failed = oracle.failed_in_a_row()
    none_completed = not result.trials or result.trials[0].status != "completed"
    if reason == "failures" or (failed and none_completed):
        raise SearchFailed(
            f"{len(failed)} consecutive trials failed, the first with"
            f" {trial_of(oracle, failed[0].trial_id).error}",
            result=result,
            hint="does every point of the space give a valid network? --fix excludes points",
        )
    if none_completed:
        raise SearchFailed(
            f"no trial was completed within {budget}",
            result=result,
            hint="raise --minutes, or lower --subset or --epochs",
        )
    return result
