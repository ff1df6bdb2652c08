"""What an oracle's trials come to, and how a search ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from keras_tuner.engine.trial import TrialStatus

from servable_trainer.networks.classifier import plain
from servable_trainer.tuning.trials import Found, Trial, TuneError, save_trials, trials_of
from servable_trainer.tuning.trials_page import save_plot

if TYPE_CHECKING:
    from servable_trainer.tuning.project import Budget
    from servable_trainer.tuning.protocol import Stop
    from servable_trainer.tuning.search_folder import SearchFolder
    from servable_trainer.tuning.watch import Watch

# After as many failures one after the other, the next point would hardly fare better.
FAILURES = 3


class SearchFailed(TuneError):
    """A search ended before its time.

    Attributes:
        found: What it had found until then.
    """

    def __init__(self, message: str, *, found: Found, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.found = found


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM ended a search; what had ended is written, and the search can go on.

    Attributes:
        found: What it had found until then; None for a worker, whose chief knows.
        status: The exit status that says so.
    """

    def __init__(self, found: Found | None, status: int) -> None:
        super().__init__()
        self.found = found
        self.status = status


def tell_where_it_was(oracle: Any, folder: SearchFolder, budget: Budget, watch: Watch) -> None:
    """Say what an earlier part of the search did, where there was one."""
    if not oracle.trials:
        return
    done = completed(oracle)
    watch.best(done)
    watch.say(
        f"going on in {folder.path}: {trials_of(len(done))} completed in"
        f" {folder.seconds / 60:.1f} minutes; the budget is {budget}"
    )


def trial_of(oracle: Any, name: str) -> Trial:
    """One of KerasTuner's trials as ours."""
    trial, notes = oracle.trials[name], oracle.notes.get(name, {})
    values = plain(trial.hyperparameters.values)
    failed = trial.status != TrialStatus.COMPLETED
    return Trial(
        hyperparameters={k: v for k, v in values.items() if not k.startswith("tuner/")},
        validation_accuracy=None if failed else float(trial.score),
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
    """The trials that ended, best first; those that failed come last."""
    finished = (TrialStatus.COMPLETED, TrialStatus.FAILED)
    trials = [
        trial_of(oracle, name) for name, one in oracle.trials.items() if one.status in finished
    ]
    return sorted(
        trials, key=lambda one: (one.status != "completed", -(one.validation_accuracy or 0))
    )


def completed(oracle: Any) -> list[Trial]:
    """The trials that were completed, best first."""
    return [trial for trial in ended(oracle) if trial.status == "completed"]


def found_by(oracle: Any, folder: SearchFolder, reason: str) -> Found:
    """What a search found so far."""
    return Found(
        trials=ended(oracle),
        ended=reason,
        seconds=round(folder.seconds, 1),
        search=folder.identity,
        space=oracle.hyperparameters.get_config()["space"],
    )


def conclude(oracle: Any, folder: SearchFolder, stop: Stop, budget: Budget) -> Found:
    """Write the results, and raise what kept the search from its end.

    Raises:
        Interrupted: Somebody asked for it.
        SearchFailed: Too many trials failed, or none was completed.
        TuneError: The results cannot be written.
    """
    full = budget.trials is not None and len(ended(oracle)) >= budget.trials
    reason = stop.reason or ("trials" if full else "space")
    if reason == "workers" and full:
        reason = "trials"  # the last one went when its work was done
    found = found_by(oracle, folder, reason)
    save_trials(folder.path, found)
    save_plot(folder.path, found)
    if stop.number is not None:
        raise Interrupted(found, 128 + stop.number)
    if reason == "workers":
        raise SearchFailed(
            "there is no worker any more that runs trials",
            found=found,
            hint="what had ended is kept; the chief begun again, with workers, goes on",
        )
    failed = oracle.failed_in_a_row()
    if reason == "failures":
        raise SearchFailed(
            f"{len(failed)} trials in a row failed, the first of them with"
            f" {trial_of(oracle, failed[0].trial_id).error}",
            found=found,
            hint="is there a network for every point of the space? --fix leaves points out",
        )
    if not found.trials or found.trials[0].status != "completed":
        raise SearchFailed(
            f"no trial was completed within {budget}",
            found=found,
            hint="give more --minutes, or fewer pictures with --subset or --epochs",
        )
    return found
