"""KerasTuner's oracles, persisted so that a search can be resumed after any crash."""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING, Any

import keras_tuner
from keras_tuner.engine.trial import Trial, TrialStatus
from keras_tuner.oracles import (
    BayesianOptimizationOracle,
    HyperbandOracle,
    RandomSearchOracle,
)

from servable_serving.core.files import atomic_write
from servable_serving.core.json_text import parse_json
from servable_trainer.tuning.objective import ACCURACY
from servable_trainer.tuning.trials import TuneError

if TYPE_CHECKING:
    from pathlib import Path

TUNERS = ("random", "hyperband", "bayesian")
# How often a trial may crash its process, by running out of memory for example.
_LIVES = 3
# Points before the Gaussian process: KerasTuner takes three for each hyperparameter.
_RANDOM_POINTS = 10
_NEVER = 1 << 30


class _Kept(keras_tuner.Oracle):  # type: ignore[misc]
    """A mix-in for each of KerasTuner's oracles.

    The state is one file, replaced atomically, that includes the trials; each trial's own file is a
    backup, from which a damaged state is rebuilt. Nothing here raises within KerasTuner's lock,
    which an exception would leave locked: a failed write is recorded in `failure`.

    Attributes:
        folder: Directory of the files.
        limit: Maximum number of trials, or None.
        over: No more trials are started; a request for one is answered with STOPPED.
        notes: By trial, what KerasTuner has no field for: `epochs`, `seconds`, `worker`, `error`.
        failure: Why a write failed, or None.
    """

    # KerasTuner's own.
    trials: dict[str, Any]
    ongoing_trials: dict[str, Any]
    end_order: list[str]
    _retry_queue: list[str]

    def __init__(self, folder: Path, **kwargs: Any) -> None:
        super().__init__(
            # The search checks these itself, to report which trial failed and how.
            max_consecutive_failed_trials=_NEVER,
            **kwargs,
        )
        self.folder = folder
        self.limit: int | None = None
        self.over = False
        self.notes: dict[str, dict[str, Any]] = {}
        self.failure: OSError | None = None
        self.verbose = 0
        self._ended_before = 0

    @keras_tuner.synchronized  # type: ignore[untyped-decorator]
    def create_trial(self, tuner_id: str) -> Trial:
        """A trial to run; its status is IDLE if none is ready, STOPPED if none is left."""
        if self.over:
            return self._none(TrialStatus.STOPPED)
        if self._full and tuner_id not in self.ongoing_trials:
            trial = self._none(TrialStatus.STOPPED)
        else:
            trial = super().create_trial(tuner_id)
        if trial.status == TrialStatus.STOPPED and self.ongoing_trials:
            # If one of those is lost, a worker must be left to run it.
            trial.status = TrialStatus.IDLE
        return trial

    @property
    def _full(self) -> bool:
        return self.limit is not None and not self._retry_queue and len(self.trials) >= self.limit

    def _none(self, status: str) -> Trial:
        return Trial(hyperparameters=self.get_space(), trial_id="", status=status)

    @keras_tuner.synchronized  # type: ignore[untyped-decorator]
    def end_trial(self, trial: Trial) -> None:
        """As KerasTuner's, with the reason of a failure, which its protocol omits."""
        notes = self.notes.get(trial.trial_id, {})
        trial.message = trial.message or notes.get("traceback")
        super().end_trial(trial)

    @keras_tuner.synchronized  # type: ignore[untyped-decorator]
    def put_back(self, tuner_id: str, *, lost: bool = False) -> None:
        """Take the trial of a worker, for another one.

        Args:
            tuner_id: The worker; it may be running none.
            lost: Whether the trial ended with its process, which may happen a few times only.
        """
        self.tuner_ids.discard(tuner_id)
        trial = self.ongoing_trials.pop(tuner_id, None)
        if trial is not None:
            self._queue(trial, lost=lost)
            self.save()

    def _queue(self, trial: Trial, *, lost: bool) -> None:
        trial.metrics, trial.score = type(trial.metrics)(), None
        self._run_times[trial.trial_id] += lost
        if self._run_times[trial.trial_id] < _LIVES:
            self._retry_queue.append(trial.trial_id)
            return
        trial.status = TrialStatus.FAILED
        self.notes[trial.trial_id] = {"error": f"its process crashed {_LIVES} times"}
        self.end_order.append(trial.trial_id)
        self._save_trial(trial)

    def failed_in_a_row(self) -> list[Trial]:
        """The last trials that all failed, of those since this process started."""
        failed: list[Trial] = []
        for name in reversed(self.end_order[self._ended_before :]):
            if self.trials[name].status != TrialStatus.FAILED:
                break
            failed.insert(0, self.trials[name])
        return failed

    def check(self) -> None:
        """Report a failed write.

        Raises:
            TuneError: A write failed.
        """
        if self.failure is not None:
            raise TuneError(
                f"cannot write to {self.folder}: {self.failure.strerror or self.failure}",
                hint="finished trials are kept: free some space and run the same command to resume",
            )

    def get_state(self) -> dict[str, Any]:
        """KerasTuner's state, and the trials."""
        return {
            **super().get_state(),
            "trials": [trial.get_state() for trial in self.trials.values()],
            "notes": self.notes,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore what `get_state` returned."""
        self.trials = {one["trial_id"]: Trial.from_state(one) for one in state["trials"]}
        self.notes = state["notes"]
        super().set_state(state)

    def save(self) -> None:
        """Write the state to disk."""
        self._write(self._state_path, self.get_state())

    def _save_trial(self, trial: Trial) -> None:
        notes = self.notes.get(trial.trial_id, {})
        path = self.trial_folder(trial.trial_id) / "trial.json"
        self._write(path, {**trial.get_state(), "notes": notes})

    @property
    def _state_path(self) -> Path:
        return self.folder / "oracle.json"

    def trial_folder(self, name: str) -> Path:
        """The directory of one trial."""
        return self.folder / f"trial_{name}"

    def _write(self, path: Path, state: dict[str, Any]) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # The Bayesian oracle yields NumPy scalars.
            atomic_write(path, json.dumps(state, default=lambda value: value.item()))
        except OSError as error:
            self.failure = self.failure or error

    def reload(self) -> bool:
        """Resume from the files; returns whether there were any trials.

        Raises:
            OSError: It cannot be read.
        """
        try:
            self.set_state(parse_json(self._state_path.read_text()))
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
            self._rebuild()
        running, self.ongoing_trials = list(self.ongoing_trials.values()), {}
        for trial in running:
            # KerasTuner saves a finished trial before it removes it from the running ones.
            if trial.status == TrialStatus.RUNNING:
                self._queue(trial, lost=True)
        self._ended_before = len(self.end_order)
        if self.trials:
            self.save()
        return bool(self.trials)

    def _rebuild(self) -> None:
        """Rebuild the state from the trials' own files."""
        names = sorted(path.name.removeprefix("trial_") for path in self.folder.glob("trial_*"))
        # Counts gaps too, or a missing name would be reused.
        count = int(names[-1]) + 1 if names else 0
        self.trials, self.notes, self.ongoing_trials = {}, {}, {}
        self.end_order, self._retry_queue = [], []
        self._run_times.clear()
        self._tried_so_far.clear()
        self._id_to_hash.clear()
        for name in (self._name(number) for number in range(count)):
            try:
                state = parse_json((self.trial_folder(name) / "trial.json").read_text())
                trial, notes = Trial.from_state(state), state["notes"]
            except (OSError, ValueError, KeyError, TypeError, AttributeError):
                trial = Trial(self.get_space(), trial_id=name, status=TrialStatus.FAILED)
                trial.hyperparameters.values = {}
                notes = {"error": "its record was damaged"}
            else:
                self._record_values(trial)
            self.trials[name], self.notes[name] = trial, notes
            if trial.status in (TrialStatus.COMPLETED, TrialStatus.FAILED):
                self.end_order.append(name)
            else:
                self.ongoing_trials[name] = trial  # of any worker
        self.start_order = list(self.trials)
        # Far beyond the seeds that were used.
        self._seed_state = self.seed + 1000 * count

    def _name(self, number: int) -> str:
        # As KerasTuner does: as wide as the maximum number of trials, which is "None" here.
        return f"{number:0{len(str(self.max_trials))}d}"


class _Random(_Kept, RandomSearchOracle):  # type: ignore[misc]
    """Bergstra and Bengio 2012, https://jmlr.org/papers/v13/bergstra12a.html."""


class _Bayesian(_Kept, BayesianOptimizationOracle):  # type: ignore[misc]
    """A Gaussian process and its upper confidence bound."""

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """As KerasTuner's, without scikit-learn's warnings about so few points."""
        from sklearn.exceptions import ConvergenceWarning

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            values: dict[str, Any] = super().populate_space(trial_id)
        return values


class _Hyperband(_Kept, HyperbandOracle):  # type: ignore[misc]
    """Li et al. 2018, https://jmlr.org/papers/v18/16-558.html."""

    def _rebuild(self) -> None:
        super()._rebuild()
        self._brackets: list[Any] = []
        begun = 0
        for name, trial in self.trials.items():
            values = trial.hyperparameters.values
            turn, past = values.get("tuner/round"), values.get("tuner/trial_id")
            if turn == 0:
                number = values["tuner/bracket"]
                size = self._get_size(number, round_num=0)
                rooms = (
                    one["rounds"][0]
                    for one in self._brackets
                    if one["bracket_num"] == number and len(one["rounds"][0]) < size
                )
                room = next(rooms, None)
                if room is None:
                    begun += 1
                    self._current_bracket = number
                    self._start_new_bracket()
                    room = self._brackets[-1]["rounds"][0]
                room.append({"past_id": None, "id": name})
            elif turn is not None:
                # KerasTuner stores the newest bracket, which need not be the trial's own.
                for one in self._brackets:
                    if past in [each["id"] for each in one["rounds"][turn - 1]]:
                        one["rounds"][turn].append({"past_id": past, "id": name})
        if not begun:
            self._current_bracket = self._get_num_brackets() - 1
            self._start_new_bracket()
        self._current_iteration = max(begun - 1, 0) // self._get_num_brackets()


def make_oracle(
    tuner: str,
    *,
    folder: Path,
    space: keras_tuner.HyperParameters,
    epochs: int,
    seed: int,
    endless: bool,
    objective: keras_tuner.Objective = ACCURACY,
) -> Any:
    """Create an oracle that keeps its state in `folder`.

    Args:
        tuner: One of `TUNERS`.
        folder: Directory of the state, which `reload` reads.
        space: Every hyperparameter; fixed ones are `Fixed`.
        epochs: Epochs per trial, with Hyperband those of the best trials.
        seed: The same seed tries the same points.
        endless: Let Hyperband start over when its brackets are done.
        objective: The metric that is optimized.
    """
    options: dict[str, Any] = {
        "objective": objective,
        "hyperparameters": space,
        # KerasTuner treats 0 as no seed.
        "seed": seed % ((1 << 32) - 1) + 1,
    }
    match tuner:
        case "random":
            return _Random(folder, max_trials=None, **options)
        case "bayesian":
            return _Bayesian(folder, max_trials=None, num_initial_points=_RANDOM_POINTS, **options)
        case "hyperband":
            return _Hyperband(
                folder, max_epochs=epochs, hyperband_iterations=_NEVER if endless else 1, **options
            )
    raise TuneError(f"unknown tuner {tuner!r}", hint=f"choose from {', '.join(TUNERS)}")
