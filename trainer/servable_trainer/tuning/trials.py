"""The trials of a search: on disk as JSON, and as a table."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from servable_client import ServableError
from servable_client.cli.console import print_table
from servable_serving.core.files import atomic_write
from servable_serving.core.json_text import parse_json
from servable_trainer.scoring.metric_names import in_words

if TYPE_CHECKING:
    from pathlib import Path

# Format version of trials.json; a reader of a newer version refuses it. Format 1 named a trial's
# score `validation_accuracy`.
FORMAT = 2


class TuneError(ServableError):
    """A search cannot be started or resumed, or a file does not hold one."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One point of the search space and its result.

    Attributes:
        hyperparameters: The point.
        score: The objective after its best epoch, the validation accuracy if nothing else was asked
            for; None if it failed.
        name: Its name in the search, counted from 0.
        status: "completed" or "failed".
        epochs: Metrics of each epoch, by their names in Keras.
        first_epoch: Number of epochs of the trial that it continues.
        continues: The trial that it continues, or None: Hyperband trains its best ones further.
        seconds: Its duration.
        worker: The worker that ran it, or None if the search had no workers.
        error: Why it failed, in one line, or None.
    """

    hyperparameters: dict[str, Any]
    score: float | None
    name: str = ""
    status: str = "completed"
    epochs: list[dict[str, float]] = field(default_factory=list)
    first_epoch: int = 0
    continues: str | None = None
    seconds: float = 0.0
    worker: str | None = None
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """The result of a search so far.

    Attributes:
        trials: The finished trials, the best first, failed ones last.
        ended: Why it ended: "trials", "minutes", "space" if no other point is left, "interrupted",
            "failures", "workers" if none was left, or "disk".
        seconds: Duration of the search, all parts added up.
        search: The settings, the data and the code.
        space: KerasTuner's description of each hyperparameter.
        objective: The metric that was optimized, by its name in Keras.
        direction: "max" if more of it is better, or "min".
    """

    trials: list[Trial]
    ended: str
    seconds: float
    search: dict[str, Any]
    space: list[dict[str, Any]]
    objective: str = "val_accuracy"
    direction: str = "max"


def save_trials(directory: Path, result: SearchResult) -> Path:
    """Write `trials.json`, which `load_hyperparameters` reads.

    Raises:
        TuneError: The directory cannot be written.
    """
    path = directory / "trials.json"
    content = {"format": FORMAT, **asdict(result)}
    try:
        atomic_write(path, json.dumps(content, indent=2) + "\n")
    except OSError as error:
        raise TuneError(f"cannot write {path}: {error.strerror}") from error
    return path


def load_hyperparameters(path: Path) -> dict[str, Any]:
    """Read the best trial's hyperparameters of a `trials.json`, or a JSON object of them.

    Raises:
        TuneError: The file is neither.
    """
    try:
        content = parse_json(path.read_text())
        if isinstance(content, dict) and "trials" in content:
            if not 1 <= content["format"] <= FORMAT:
                raise TuneError(
                    f"{path} has format {content['format']}; this version reads up to {FORMAT}"
                )
            content = content["trials"]
        if isinstance(content, list):
            # The first is the best; it failed only if all did.
            best = content[0]
            if best.get("status", "completed") != "completed":
                raise TuneError(f"no trial in {path} was completed")
            content = best["hyperparameters"]
        return dict(content)
    except (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise TuneError(
            f"{path} does not hold hyperparameters: {error}",
            hint="`servable tune` writes such a file",
        ) from error


def print_trials(trials: list[Trial], *, objective: str = "val_accuracy", count: int = 10) -> None:
    """Print the best `count` as a table, without the hyperparameters that all share."""
    completed = [trial for trial in trials if trial.status == "completed"]
    points = [trial.hyperparameters for trial in completed]
    shared = [
        name
        for name in (points[0] if len(points) > 1 else ())
        if all(point.get(name) == points[0][name] for point in points)
    ]
    failed = len(trials) - len(completed)
    title = trials_of(len(completed)) + (f", {failed} failed" if failed else "")
    print_table(
        ("rank", "trial", in_words(objective), "epochs", "hyperparameters"),
        [
            (
                rank,
                trial.name,
                trial.score,
                trial.first_epoch + len(trial.epochs),
                one_line({k: v for k, v in trial.hyperparameters.items() if k not in shared}),
            )
            for rank, trial in enumerate(completed[:count], 1)
        ],
        title=title if len(completed) <= count else f"best {count} of {title}",
    )


def trials_of(count: int) -> str:
    """A number of trials, in words."""
    return f"{count} trial{'' if count == 1 else 's'}"


def one_line(values: dict[str, Any]) -> str:
    """Hyperparameters as one readable line."""
    return ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in sorted(values.items())
    )
