"""What a search found: on disk as JSON, and as a table."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from servable_client import ServableError
from servable_client.cli.console import print_table
from servable_serving.core.files import atomic_write

if TYPE_CHECKING:
    from pathlib import Path

# Of the shape of trials.json; a reader that knows another one refuses.
FORMAT = 1


class TuneError(ServableError):
    """A search cannot be made or gone on with, or a file holds none."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One point of the space, and how good it was.

    Attributes:
        hyperparameters: The point.
        validation_accuracy: Its accuracy on the validation pictures after its best epoch, 0 to 1;
            None where it failed.
        name: What the search calls it, counted from 0.
        status: "completed" or "failed".
        epochs: What each of its epochs measured: loss and accuracy, and validation's.
        first_epoch: How many epochs the trial that it went on from had done.
        continues: The trial that it went on from, or None: Hyperband trains its best ones further.
        seconds: How long it took.
        worker: Who ran it, or None where the search had no workers.
        error: Why it failed, in a line, or None.
    """

    hyperparameters: dict[str, Any]
    validation_accuracy: float | None
    name: str = ""
    status: str = "completed"
    epochs: list[dict[str, float]] = field(default_factory=list)
    first_epoch: int = 0
    continues: str | None = None
    seconds: float = 0.0
    worker: str | None = None
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a search found so far.

    Attributes:
        trials: Those that ended, the best first, those that failed last.
        ended: Why it ended: "trials", "minutes", "space" where there is no other point,
            "interrupted", "failures", "workers" where none was left, or "disk".
        seconds: How long it searched, in all its parts.
        search: The settings, the data and the code that it was made with.
        space: KerasTuner's description of each hyperparameter.
    """

    trials: list[Trial]
    ended: str
    seconds: float
    search: dict[str, Any]
    space: list[dict[str, Any]]


def save_trials(directory: Path, found: Found) -> Path:
    """Write the trials where `load_hyperparameters` reads them.

    Raises:
        TuneError: The folder cannot be written.
    """
    path = directory / "trials.json"
    content = {"format": FORMAT, "objective": "validation_accuracy", **asdict(found)}
    try:
        atomic_write(path, json.dumps(content, indent=2) + "\n")
    except OSError as error:
        raise TuneError(f"cannot write {path}: {error.strerror}") from error
    return path


def load_hyperparameters(path: Path) -> dict[str, Any]:
    """The best trial's hyperparameters in a file of trials, or the object that a file holds.

    Raises:
        TuneError: The file holds neither.
    """
    try:
        content = json.loads(path.read_text())
        if isinstance(content, dict) and "trials" in content:
            if content["format"] != FORMAT:
                raise TuneError(
                    f"{path} has format {content['format']}, and this version reads {FORMAT}"
                )
            content = content["trials"]
        if isinstance(content, list):
            # The first is the best; one that failed is there only where all did.
            best = content[0]
            if best.get("status", "completed") != "completed":
                raise TuneError(f"no trial in {path} was completed")
            content = best["hyperparameters"]
        return dict(content)
    except (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise TuneError(
            f"{path} holds no hyperparameters: {error}", hint="`servable tune` writes such a file"
        ) from error


def print_trials(trials: list[Trial], *, count: int = 10) -> None:
    """Print the best `count` as a table, without the hyperparameters that all of them share."""
    completed = [trial for trial in trials if trial.status == "completed"]
    points = [trial.hyperparameters for trial in completed]
    shared = [
        name
        for name in (points[0] if len(points) > 1 else ())
        if all(point.get(name) == points[0][name] for point in points)
    ]
    failed = len(trials) - len(completed)
    title = trials_of(len(completed)) + (f", and {failed} that failed" if failed else "")
    print_table(
        ("rank", "trial", "validation accuracy", "epochs", "hyperparameters"),
        [
            (
                rank,
                trial.name,
                trial.validation_accuracy,
                trial.first_epoch + len(trial.epochs),
                one_line({k: v for k, v in trial.hyperparameters.items() if k not in shared}),
            )
            for rank, trial in enumerate(completed[:count], 1)
        ],
        title=title if len(completed) <= count else f"the best {count} of {title}",
    )


def trials_of(count: int) -> str:
    """So many trials, in words."""
    return f"{count} trial{'' if count == 1 else 's'}"


def one_line(values: dict[str, Any]) -> str:
    """Hyperparameters as a person reads them."""
    return ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in sorted(values.items())
    )
