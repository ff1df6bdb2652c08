"""Projects that KerasTuner itself wrote: the best trial's network, with its weights.

A project is a directory with one of trials, each of which has its hyperparameters and score in
trial.json and the weights of its best epoch beside it (keras_tuner/src/engine/tuner.py).
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from servable_serving.core.json_text import parse_json
from servable_trainer.tuning.trials import TuneError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

_TRIAL, _WEIGHTS = "trial.json", ("checkpoint.weights.h5", "checkpoint.keras")
_COMPLETED = "COMPLETED"


@dataclass(frozen=True, kw_only=True)
class BestTrial:
    """The best trial of a project.

    Attributes:
        name: Its name.
        hyperparameters: Its point of the search space.
        score: Its value of the objective.
        objective: The objective's name.
        folder: Its directory.
    """

    name: str
    hyperparameters: dict[str, Any]
    score: float
    objective: str
    folder: Path


def best_trial(project: Path) -> BestTrial:
    """Find the best completed trial of a KerasTuner project.

    Args:
        project: Its directory: `directory/project_name` of the tuner.

    Raises:
        TuneError: It is not such a project, or no trial was completed.
    """
    trials = list(_trials(project))
    if not trials:
        raise TuneError(
            f"{project} is not a KerasTuner project with a completed trial",
            hint="give DIRECTORY/PROJECT_NAME of the tuner, with a directory trial_* per trial",
        )
    try:
        objective, direction = _objective(trials, project)
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise TuneError(f"the trials in {project} cannot be read: {error!r}") from error
    order = min if direction == "min" else max
    return order(
        (_as_trial(folder, trial, objective) for folder, trial in trials), key=lambda t: t.score
    )


def best_model(project: Path, build: Callable[[Any], Any]) -> tuple[Any, BestTrial]:
    """Build the network of a project's best trial, and load its weights.

    Args:
        project: As for `best_trial`.
        build: The function of hyperparameters that the search was run with.

    Returns:
        The keras.Model, and the trial.

    Raises:
        TuneError: There is no such trial, or it has no weights, or they are another network's.
    """
    import keras_tuner

    trial = best_trial(project)
    config = parse_json((trial.folder / _TRIAL).read_text())["hyperparameters"]
    model = build(keras_tuner.HyperParameters.from_config(config))
    found = [trial.folder / name for name in _WEIGHTS if (trial.folder / name).is_file()]
    if not found:
        raise TuneError(
            f"{trial.folder} holds no weights",
            hint="the tuner must have trained the trials itself, with `search`",
        )
    try:
        with warnings.catch_warnings():
            # The optimizer's state is in the file, and the optimizer was not built.
            warnings.filterwarnings("ignore", "Skipping variable loading for optimizer")
            model.load_weights(found[0])
    except (OSError, ValueError, KeyError) as error:
        raise TuneError(
            f"the weights of trial {trial.name} do not fit the network: "
            f"{str(error).partition(chr(10))[0][:200]}",
            hint="--model must name the function or HyperModel of that search",
        ) from error
    return model, trial


def _trials(project: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in sorted(project.glob(f"trial_*/{_TRIAL}")):
        try:
            trial = parse_json(path.read_text())
            score = trial["score"]
        except (OSError, ValueError, KeyError, TypeError):
            continue  # a trial that was running when the search was killed
        finite = isinstance(score, int | float) and math.isfinite(score)
        if trial.get("status") == _COMPLETED and finite:
            yield path.parent, trial


def _objective(trials: Sequence[tuple[Path, dict[str, Any]]], project: Path) -> tuple[str, str]:
    """The name of a search's objective, and "min" or "max".

    KerasTuner does not write it down: it is the metric whose best value is the score of each trial.
    """
    directions: dict[str, str] = {}
    for _, trial in trials:
        found = {
            name: history["direction"]
            for name, history in trial["metrics"]["metrics"].items()
            if math.isclose(_best(history), trial["score"])
        }
        if trial is trials[0][1]:
            directions = found
        directions = {name: way for name, way in directions.items() if found.get(name) == way}
    if len(set(directions.values())) != 1:
        raise TuneError(
            f"the objective of the search in {project} is not known",
            hint="export the best model from Python: export(tuner.get_best_models()[0], ...)",
        )
    return next(iter(directions.items()))


def _best(history: dict[str, Any]) -> float:
    # One value per execution of a step, of which KerasTuner takes the mean.
    means = [sum(one["value"]) / len(one["value"]) for one in history["observations"]]
    return float(min(means) if history["direction"] == "min" else max(means))


def _as_trial(folder: Path, trial: dict[str, Any], objective: str) -> BestTrial:
    return BestTrial(
        name=folder.name.removeprefix("trial_"),
        hyperparameters=dict(trial["hyperparameters"]["values"]),
        score=float(trial["score"]),
        objective=objective,
        folder=folder,
    )
