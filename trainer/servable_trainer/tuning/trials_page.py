"""A search as a page: every trial a line through its hyperparameters, and the table of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from servable_serving.core.files import atomic_write
from servable_trainer.tuning.trials import TuneError, trials_of

if TYPE_CHECKING:
    from servable_trainer.tuning.trials import Found, Trial

_TOP, _BOTTOM, _STEP, _MARGIN = 70.0, 370.0, 84.0, 60.0
_TABLE_ROWS = 200


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One upright line of the plot.

    Attributes:
        name: What is on it.
        x: Where it stands.
        ticks: Heights and what is written there.
    """

    name: str
    x: float
    ticks: list[tuple[float, str]]


@dataclass(frozen=True, kw_only=True)
class Line:
    """A trial in the plot.

    Attributes:
        trial: It.
        points: Its way, as SVG has it.
        share: 0 for the worst of all, 1 for the best.
    """

    trial: Trial
    points: str
    share: float


def save_plot(directory: Path, found: Found) -> Path:
    """Write `trials.html`, which needs nothing else.

    Raises:
        TuneError: It cannot be written.
    """
    path = directory / "trials.html"
    try:
        atomic_write(path, render(found))
    except OSError as error:
        raise TuneError(f"cannot write {path}: {error.strerror}") from error
    return path


def render(found: Found) -> str:
    """The page."""
    from jinja2 import Environment, FileSystemLoader

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True
    )
    completed = [trial for trial in found.trials if trial.status == "completed"]
    axes, lines = parallel_coordinates(completed, found.space)
    return environment.get_template("trials_page.html").render(
        found=found,
        completed=completed,
        failed=[trial for trial in found.trials if trial.status != "completed"],
        axes=axes,
        lines=lines,
        shown=completed[:_TABLE_ROWS],
        names=sorted({name for trial in completed for name in trial.hyperparameters}),
        width=axes[-1].x + _MARGIN if axes else 0,
        top=_TOP,
        bottom=_BOTTOM,
        said=_said,
        trials_of=trials_of,
        version=version("servable"),
    )


def parallel_coordinates(
    trials: list[Trial], space: list[dict[str, Any]]
) -> tuple[list[Axis], list[Line]]:
    """The axes and lines of the plot (Inselberg 1985).

    Args:
        trials: Those that were completed, best first.
        space: KerasTuner's description of each hyperparameter; one that never varied is left out.

    Returns:
        An axis for each hyperparameter and a last one for the accuracy; and the lines, the best
        one last, so that it lies on top.
    """
    if not trials:
        return [], []
    axes: list[Axis] = []
    heights: list[list[float]] = []
    for one in space:
        config = one["config"]
        values = [trial.hyperparameters.get(config["name"]) for trial in trials]
        if len(set(map(str, values))) < 2:
            continue
        scale, ticks = _scale(values, logarithmic=config.get("sampling") == "log")
        axes.append(Axis(name=config["name"], x=_x(len(axes)), ticks=ticks))
        heights.append([scale(value) for value in values])
    scores = [trial.validation_accuracy or 0.0 for trial in trials]
    scale, ticks = _scale(scores, logarithmic=False)
    axes.append(Axis(name="validation accuracy", x=_x(len(axes)), ticks=ticks))
    heights.append([scale(score) for score in scores])
    spread = (max(scores) - min(scores)) or 1.0
    lines = [
        Line(
            trial=trial,
            points=" ".join(
                f"{axis.x:.1f},{column[index]:.1f}"
                for axis, column in zip(axes, heights, strict=True)
            ),
            share=(scores[index] - min(scores)) / spread,
        )
        for index, trial in enumerate(trials)
    ]
    return axes, lines[::-1]


def _x(number: int) -> float:
    return _MARGIN + number * _STEP


def _scale(values: list[Any], *, logarithmic: bool) -> tuple[Any, list[tuple[float, str]]]:
    """A function from a value to its height, and the ticks."""
    distinct = set(values)
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in distinct)
    if not numbers or len(distinct) <= 6:
        # Side by side: what was chosen from a list says nothing about what lies between.
        ordered = sorted(distinct) if numbers else sorted(distinct, key=str)
        height = {value: _height(_share(n, len(ordered))) for n, value in enumerate(ordered)}
        return height.__getitem__, [(y, _said(value)) for value, y in height.items()]
    logarithmic = logarithmic and min(distinct) > 0
    bend = math.log if logarithmic else float
    low, high = bend(min(distinct)), bend(max(distinct))

    def scale(value: float) -> float:
        return _height((bend(value) - low) / (high - low))

    shares = [n / 4 for n in range(5)]
    ends = [low + share * (high - low) for share in shares]
    marks = [math.exp(end) if logarithmic else end for end in ends]
    return scale, [(_height(s), _said(mark)) for s, mark in zip(shares, marks, strict=True)]


def _share(number: int, count: int) -> float:
    return number / (count - 1) if count > 1 else 0.5


def _height(share: float) -> float:
    return _BOTTOM - share * (_BOTTOM - _TOP)


def _said(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
