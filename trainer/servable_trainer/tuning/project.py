"""What a search is made of: data, a network and its space, settings, and a budget."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import keras_tuner

from servable_trainer.tuning.objective import objective_of
from servable_trainer.tuning.oracles import make_oracle
from servable_trainer.tuning.progress import SearchProgress
from servable_trainer.tuning.runner import Runner
from servable_trainer.tuning.trials import TuneError, trials_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from servable_trainer.tuning.search_folder import SearchFolder
    from servable_trainer.tuning.subject import Subject

_DEFAULT_TRIALS = 10


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """The settings of a search; a search is resumed only with the same.

    Attributes:
        tuner: "random", "hyperband" or "bayesian".
        epochs: Epochs per trial; with Hyperband those of the best trials. Default: 2, or with
            Hyperband 9, which gives three brackets.
        subset: Number of training examples per trial; a fifth as many validate it. Default: 12,000
            images, or all that a function yields.
        seed: The same seed tries the same points.
        fixed: Hyperparameters that are not searched but have these values.
        objective: The metric to optimize, NAME, NAME:min or NAME:max. Default: validation accuracy,
            or the validation loss of a network of one's own that is compiled without accuracy.
    """

    tuner: str = "random"
    epochs: int = 0
    subset: int | None = None
    seed: int = 0
    fixed: dict[str, Any] = field(default_factory=dict)
    objective: str | None = None

    def __post_init__(self) -> None:
        if not self.epochs:
            # The way of a frozen dataclass to fill one in.
            object.__setattr__(self, "epochs", 9 if self.tuner == "hyperband" else 2)


@dataclass(frozen=True, kw_only=True)
class SearchBudget:
    """When a search ends: at whichever limit comes first.

    Attributes:
        trials: Maximum number of trials.
        minutes: Maximum duration, interrupted parts included.
    """

    trials: int | None = None
    minutes: float | None = None

    def __str__(self) -> str:
        parts = [trials_of(self.trials)] if self.trials else []
        parts += [f"{self.minutes:g} minutes"] if self.minutes else []
        return " or ".join(parts) or "one pass"

    def over(self, seconds: float) -> bool:
        """Whether the search has used up its time."""
        return self.minutes is not None and seconds >= self.minutes * 60

    @classmethod
    def of(
        cls, settings: SearchSettings, trials: int | None, minutes: float | None
    ) -> SearchBudget:
        """The given limits; default: ten trials, or with Hyperband each bracket once."""
        if trials is None and minutes is None and settings.tuner != "hyperband":
            trials = _DEFAULT_TRIALS
        return cls(trials=trials, minutes=minutes)


class Project:
    """A subject and settings: what chief and workers must have in common.

    Args:
        subject: The network and its data.
        settings: The settings.

    Raises:
        HyperparameterError: A fixed hyperparameter is unknown or out of range.
        TuneError: The objective is not valid.
    """

    def __init__(self, subject: Subject, settings: SearchSettings) -> None:
        if settings.subset is None:
            settings = replace(settings, subset=subject.subset)
        self.subject = subject
        self.settings = settings
        self.objective = (
            subject.objective if settings.objective is None else objective_of(settings.objective)
        )
        subject.check(settings.fixed)
        self.space = _pinned(subject.space, settings.fixed)

    @property
    def identity(self) -> dict[str, Any]:
        """What must be the same to resume a search, or to join one."""
        return {
            "settings": asdict(self.settings),
            "data": self.subject.data,
            "code": {"servable": version("servable"), **self.subject.code},
        }

    def open(self, folder: SearchFolder, budget: SearchBudget, *, overwrite: bool) -> Any:
        """Open the oracle, with its earlier trials if there are any.

        Raises:
            TuneError: The folder holds another search, or cannot be read or written.
        """
        folder.begin(self.identity, overwrite=overwrite)
        oracle = make_oracle(
            self.settings.tuner,
            folder=folder.trials,
            space=self.space,
            epochs=self.settings.epochs,
            seed=self.settings.seed,
            objective=self.objective,
            endless=budget.trials is not None or budget.minutes is not None,
        )
        try:
            oracle.reload()
        except OSError as error:
            raise TuneError(f"cannot read {folder.trials}: {error.strerror}") from error
        oracle.limit = budget.trials
        oracle.check()
        return oracle

    def progress(self, budget: SearchBudget | None = None) -> SearchProgress:
        """Progress of a search with this objective."""
        return SearchProgress(self.objective.name, f", {budget}" if budget else "")

    def runner(
        self, trials: Path, progress: SearchProgress, heartbeat: Callable[[], None]
    ) -> Runner:
        """The runner that trains the networks of trials."""
        # TensorFlow mistakes the networks of trials for one that is retraced.
        logging.getLogger("tensorflow").addFilter(_is_no_retracing)
        settings = self.settings
        fit, validation = self.subject.parts(seed=settings.seed, subset=settings.subset)
        return Runner(
            network=self.subject.network,
            objective=self.objective,
            objective_given=settings.objective is not None,
            fit=fit,
            validation=validation,
            epochs=self.settings.epochs,
            seed=self.settings.seed,
            folder=trials,
            progress=progress,
            heartbeat=heartbeat,
        )


def _is_no_retracing(record: logging.LogRecord) -> bool:
    return "triggered tf.function retracing" not in str(record.msg)


def _pinned(
    space: keras_tuner.HyperParameters, fixed: dict[str, Any]
) -> keras_tuner.HyperParameters:
    pinned = keras_tuner.HyperParameters()
    for one in space.space:
        if one.name in fixed:
            kind = keras_tuner.engine.hyperparameters.Fixed
            pinned.merge([kind(one.name, fixed[one.name], conditions=one.conditions)])
        else:
            pinned.merge([one])
    known = {one.name for one in space.space}
    for name in fixed.keys() - known:  # asked for under a condition, or by a `fit`
        pinned.Fixed(name, fixed[name])
    return pinned
