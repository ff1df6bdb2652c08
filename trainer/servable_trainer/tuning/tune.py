"""The search for hyperparameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from servable_trainer.tuning.loop import signals_stop, work
from servable_trainer.tuning.project import Budget, Project, Settings
from servable_trainer.tuning.protocol import Stop
from servable_trainer.tuning.results import (
    FAILURES,
    SearchFailed,
    completed,
    conclude,
    found_by,
    tell_where_it_was,
    trial_of,
)
from servable_trainer.tuning.search_folder import SearchFolder
from servable_trainer.tuning.trials import Found, Trial, TuneError
from servable_trainer.tuning.watch import Watch

if TYPE_CHECKING:
    from pathlib import Path

    from keras_tuner.engine.trial import Trial as KerasTrial

    from servable_trainer.data.dataset import Dataset
    from servable_trainer.networks.classifier import ImageClassifier
    from servable_trainer.tuning.protocol import Outcome

__all__ = ["Trial", "TuneError", "search", "tune"]


def tune(
    dataset: Dataset,
    *,
    directory: Path,
    tuner: str = "random",
    trials: int | None = None,
    minutes: float | None = None,
    epochs: int | None = None,
    subset: int = 12_000,
    seed: int = 0,
    fixed: dict[str, Any] | None = None,
    overwrite: bool = False,
    classifier: ImageClassifier | None = None,
) -> list[Trial]:
    """Search for hyperparameters on part of the training pictures.

    Called again with the same arguments it goes on where it was, whatever ended it: what had
    ended counts, and a trial that was broken off is run again. `trials` and `minutes` may differ.
    When the minutes are over, the trial that runs is broken off and does not count. Without
    either there are ten trials, or with Hyperband each bracket once.

    Args:
        dataset: Its training part alone is looked at.
        directory: Where the search keeps its files; `trials.json` and `trials.html` in the end.
        tuner: "random", "hyperband" or "bayesian".
        trials: How many points of the space to try.
        minutes: How long to search, all its parts together.
        epochs: How long each is trained, 2 unless given; with Hyperband the best ones, 9.
        subset: How many pictures each learns from; a fifth as many validate it.
        seed: The same seed tries the same points.
        fixed: Hyperparameters that are not searched, but have these values.
        overwrite: Begin anew.
        classifier: The network and its space; `ImageClassifier` for the dataset unless given.

    Returns:
        The trials that ended, best first; those that failed come last.

    Raises:
        HyperparameterError: One that is fixed is unknown, or outside its range.
        Interrupted: Ctrl-C or SIGTERM ended it.
        SearchFailed: Too many trials failed, none was completed, or the disk is full.
        TuneError: `directory` cannot be written, is in use, or holds another search.
    """
    settings = Settings(
        tuner=tuner, epochs=epochs or 0, subset=subset, seed=seed, fixed=dict(fixed or {})
    )
    return search(
        dataset,
        directory=directory,
        settings=settings,
        budget=Budget.of(settings, trials, minutes),
        overwrite=overwrite,
        classifier=classifier,
    ).trials


def search(
    dataset: Dataset,
    *,
    directory: Path,
    settings: Settings,
    budget: Budget,
    overwrite: bool = False,
    classifier: ImageClassifier | None = None,
) -> Found:
    """As `tune`; all that was found."""
    project = Project(dataset, settings, classifier)
    folder = SearchFolder(directory)
    with folder.held():
        oracle = project.open(folder, budget, overwrite=overwrite)
        stop = Stop()
        with Watch(f", {budget}") as watch, signals_stop(stop, watch.say):
            desk = _Here(oracle, folder, budget, stop, watch)
            tell_where_it_was(oracle, folder, budget, watch)
            runner = project.runner(folder.trials, watch, desk.heartbeat)
            folder.start_clock()
            try:
                work(desk, runner, stop)
            except TuneError as error:
                raise SearchFailed(
                    str(error), found=found_by(oracle, folder, "disk"), hint=error.hint
                ) from error
            finally:
                folder.stop_clock()
        return conclude(oracle, folder, stop, budget)


class _Here:
    """The oracle of a search in one process."""

    def __init__(
        self, oracle: Any, folder: SearchFolder, budget: Budget, stop: Stop, watch: Watch
    ) -> None:
        self._oracle = oracle
        self._folder = folder
        self._budget = budget
        self._stop = stop
        self._watch = watch

    def ask(self) -> KerasTrial:
        self._look_at_clock()
        self._oracle.over = bool(self._stop.reason)
        trial = self._oracle.create_trial("here")
        self._oracle.check()
        return trial

    def tell(self, trial: KerasTrial, outcome: Outcome) -> None:
        name = trial.trial_id
        self._oracle.notes[name] = outcome.notes
        if outcome.metrics:
            self._oracle.update_trial(name, outcome.metrics, step=outcome.step)
        trial.status = outcome.status
        self._oracle.end_trial(trial)
        self._oracle.check()
        self._watch.ended(trial_of(self._oracle, name), completed(self._oracle))
        if len(self._oracle.failed_in_a_row()) >= FAILURES:
            self._stop.ask("failures")

    def give_back(self, trial: KerasTrial) -> None:
        self._watch.gone(trial.trial_id)
        self._oracle.put_back("here")
        self._oracle.check()

    def heartbeat(self) -> None:
        self._folder.tick()
        self._look_at_clock()
        self._stop.check()

    def _look_at_clock(self) -> None:
        if self._budget.over(self._folder.seconds):
            self._stop.ask("minutes")
