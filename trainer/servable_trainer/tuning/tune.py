"""The search for hyperparameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from servable_trainer.tuning.loop import signals_stop, work
from servable_trainer.tuning.project import Project, SearchBudget, SearchSettings
from servable_trainer.tuning.protocol import StopSignal
from servable_trainer.tuning.results import (
    FAILURES,
    SearchFailed,
    completed,
    conclude,
    report_resumed,
    search_result,
    trial_of,
)
from servable_trainer.tuning.search_folder import SearchFolder
from servable_trainer.tuning.subject import subject_of
from servable_trainer.tuning.trials import SearchResult, Trial, TuneError

if TYPE_CHECKING:
    from pathlib import Path

    from keras_tuner.engine.trial import Trial as KerasTrial

    from servable_trainer.data.dataset import Dataset
    from servable_trainer.data.own_data import OwnData
    from servable_trainer.networks.classifier import ImageClassifier
    from servable_trainer.networks.own_network import OwnNetwork
    from servable_trainer.tuning.progress import SearchProgress
    from servable_trainer.tuning.protocol import Outcome
    from servable_trainer.tuning.subject import Subject

__all__ = ["Trial", "TuneError", "search", "tune"]


def tune(
    dataset: Dataset | OwnData,
    *,
    directory: Path,
    tuner: str = "random",
    trials: int | None = None,
    minutes: float | None = None,
    epochs: int | None = None,
    subset: int | None = None,
    seed: int = 0,
    fixed: dict[str, Any] | None = None,
    objective: str | None = None,
    overwrite: bool = False,
    classifier: ImageClassifier | OwnNetwork | None = None,
    input_range: str | None = None,
) -> list[Trial]:
    """Search for hyperparameters on a subset of the training images.

    A call with the same arguments resumes an interrupted search: finished trials are kept, and an
    interrupted one is repeated. `trials` and `minutes` may differ. When the minutes are over, the
    current trial is cancelled and does not count. The default is ten trials, or with Hyperband each
    bracket once.

    Args:
        dataset: Labelled images, of which only the training part is used; or for a network of your
            own, other data: see `own_data`.
        directory: Directory of the search; `trials.json` and `trials.html` are written there.
        tuner: "random", "hyperband" or "bayesian".
        trials: Maximum number of trials.
        minutes: Maximum duration, interrupted parts included.
        epochs: Epochs per trial, default 2; with Hyperband those of the best trials, default 9.
        subset: Number of training examples per trial; a fifth as many validate it. Default: 12,000
            images, or all of other data.
        seed: The same seed tries the same points.
        fixed: Hyperparameters that are not searched but have these values.
        objective: The metric to optimize, as Keras names it, with ":min" or ":max" behind it where
            that is not known. Default: "val_accuracy", or "val_loss" for a network of your own that
            is compiled without accuracy.
        overwrite: Discard an existing search.
        classifier: The network and its space; default: `ImageClassifier` for the dataset.
        input_range: How a network of your own takes the images of a dataset: "0..1", "-1..1",
            "0..255", "caffe" or "torch"; default: "0..255" if it scales pixels itself, else "0..1".

    Returns:
        The finished trials, best first; those that failed come last.

    Raises:
        HyperparameterError: A fixed hyperparameter is unknown or out of range.
        NetworkError: The network does not fit the data.
        Interrupted: Ctrl-C or SIGTERM ended the search.
        SearchFailed: Too many trials failed, none was completed, or the disk is full.
        TuneError: `directory` cannot be written, is in use, or holds another search.
    """
    settings = SearchSettings(
        tuner=tuner,
        epochs=epochs or 0,
        subset=subset,
        seed=seed,
        fixed=dict(fixed or {}),
        objective=objective,
    )
    return search(
        subject_of(dataset, classifier, input_range=input_range),
        directory=directory,
        settings=settings,
        budget=SearchBudget.of(settings, trials, minutes),
        overwrite=overwrite,
    ).trials


def search(
    subject: Subject,
    *,
    directory: Path,
    settings: SearchSettings,
    budget: SearchBudget,
    overwrite: bool = False,
) -> SearchResult:
    """As `tune`, with all of the result."""
    project = Project(subject, settings)
    folder = SearchFolder(directory)
    with folder.held():
        oracle = project.open(folder, budget, overwrite=overwrite)
        stop = StopSignal()
        with project.progress(budget) as progress, signals_stop(stop, progress.say):
            source = _LocalTrials(oracle, folder, budget, stop, progress)
            report_resumed(oracle, folder, budget, progress)
            runner = project.runner(folder.trials, progress, source.heartbeat)
            folder.start_clock()
            try:
                work(source, runner, stop)
            except TuneError as error:
                raise SearchFailed(
                    str(error), result=search_result(oracle, folder, "disk"), hint=error.hint
                ) from error
            finally:
                folder.stop_clock()
        return conclude(oracle, folder, stop, budget)


class _LocalTrials:
    """The trials of a search in one process, from its own oracle."""

    def __init__(
        self,
        oracle: Any,
        folder: SearchFolder,
        budget: SearchBudget,
        stop: StopSignal,
        progress: SearchProgress,
    ) -> None:
        self._oracle = oracle
        self._folder = folder
        self._budget = budget
        self._stop = stop
        self._progress = progress

    def next_trial(self) -> KerasTrial:
        self._check_budget()
        self._oracle.over = bool(self._stop.reason)
        trial = self._oracle.create_trial("here")
        self._oracle.check()
        return trial

    def report(self, trial: KerasTrial, outcome: Outcome) -> None:
        name = trial.trial_id
        self._oracle.notes[name] = outcome.notes
        if outcome.metrics:
            self._oracle.update_trial(name, outcome.metrics, step=outcome.step)
        trial.status = outcome.status
        self._oracle.end_trial(trial)
        self._oracle.check()
        self._progress.trial_ended(trial_of(self._oracle, name), completed(self._oracle))
        if len(self._oracle.failed_in_a_row()) >= FAILURES:
            self._stop.request("failures")

    def return_trial(self, trial: KerasTrial) -> None:
        self._progress.trial_cancelled(trial.trial_id)
        self._oracle.put_back("here")
        self._oracle.check()

    def heartbeat(self) -> None:
        self._folder.tick()
        self._check_budget()
        self._stop.raise_if_cancelled()

    def _check_budget(self) -> None:
        if self._budget.over(self._folder.seconds):
            self._stop.request("minutes")
