"""A search as an HTML page: parallel coordinates of the trials, and a table of them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from html import escape
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from servable_serving.core.files import atomic_write
from servable_trainer.scoring.metric_names import in_words
from servable_trainer.tuning.trials import TuneError, trials_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from servable_trainer.tuning.trials import SearchResult, Trial

_TABLE_ROWS = 200
_AXIS_INCHES, _HEIGHT_INCHES = 1.1, 4.2


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One axis of the parallel coordinates.

    Attributes:
        name: The hyperparameter, or the objective.
        heights: Where each trial crosses it, from 0 to 1.
        ticks: Heights and their labels.
    """

    name: str
    heights: list[float]
    ticks: list[tuple[float, str]]


def save_page(directory: Path, result: SearchResult) -> Path:
    """Write `trials.html`, a self-contained page.

    Raises:
        TuneError: It cannot be written.
    """
    path = directory / "trials.html"
    try:
        atomic_write(path, render(result))
    except OSError as error:
        raise TuneError(f"cannot write {path}: {error.strerror}") from error
    return path


def render(result: SearchResult) -> str:
    """The page."""
    from jinja2 import Environment, FileSystemLoader
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True
    )
    completed = [trial for trial in result.trials if trial.status == "completed"]
    axes = parallel_axes(
        completed, result.space, objective=result.objective, falling=result.direction == "min"
    )
    return environment.get_template(
        "trials_page.html"
    ).render(
        result=result,
        completed=completed,
        failed=[trial for trial in result.trials if trial.status != "completed"],
        # SVG of our own, in which labels are escaped.
        plot=Markup(parallel_coordinates(completed, axes)) if axes else None,  # noqa: S704
        shown=completed[:_TABLE_ROWS],
        names=sorted({name for trial in completed for name in trial.hyperparameters}),
        text=_text,
        trials_of=trials_of,
        in_words=in_words,
        version=version("servable"),
    )


def parallel_axes(
    trials: list[Trial],
    space: list[dict[str, Any]],
    *,
    objective: str = "val_accuracy",
    falling: bool = False,
) -> list[Axis]:
    """The axes of parallel coordinates (Inselberg 1985).

    Args:
        trials: Those that were completed, best first.
        space: KerasTuner's description of each hyperparameter; one that never varies is left out.
        objective: The metric of the last axis.
        falling: Whether less of it is better, and therefore above.

    Returns:
        An axis for each hyperparameter and a last one for the objective; none without trials.
    """
    if not trials:
        return []
    axes = []
    for one in space:
        config = one["config"]
        values = [trial.hyperparameters.get(config["name"]) for trial in trials]
        if len(set(map(str, values))) > 1:
            axes.append(_axis(config["name"], values, config.get("sampling") == "log"))
    scores = [trial.score or 0.0 for trial in trials]
    last = _axis(in_words(objective), scores, logarithmic=False)
    if falling:
        last = replace(
            last,
            heights=[1 - height for height in last.heights],
            ticks=[(1 - height, text) for height, text in last.ticks],
        )
    return [*axes, last]


def parallel_coordinates(trials: list[Trial], axes: list[Axis]) -> str:
    """The plot as an SVG element to put into a page; each trial's line has a tooltip.

    Args:
        trials: Those that were completed, best first.
        axes: Of these trials.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from servable_trainer.scoring.svg import ACCENT, LINE, OTHER, SOFT, STYLE, to_svg

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(_AXIS_INCHES * (len(axes) + 1), _HEIGHT_INCHES))
        plot = figure.add_axes((0, 0.04, 1, 0.8))
        plot.set(xlim=(-0.8, len(axes) - 0.2), ylim=(-0.03, 1.03))
        plot.set_axis_off()
        for number, axis in enumerate(axes):
            plot.plot([number, number], [0, 1], color=LINE, linewidth=1)
            plot.annotate(
                axis.name,
                (number, 1),
                # Neighbours at two heights, since names are wider than the space between axes.
                xytext=(0, 14 if number % 2 else 28),
                textcoords="offset points",
                ha="center",
                fontsize=9,
                parse_math=False,
            )
        # The best one last, so that it lies on top.
        ranked = list(enumerate(trials))[::-1]
        for rank, trial in ranked:
            best = rank == 0
            plot.plot(
                range(len(axes)),
                [axis.heights[rank] for axis in axes],
                color=OTHER if best else ACCENT,
                alpha=1 if best else 0.15 + 0.7 * axes[-1].heights[rank],
                linewidth=2.5 if best else 1.2,
                marker="o" if len(axes) == 1 else "",
                gid=_gid(trial),
            )
        for number, axis in enumerate(axes):
            for height, text in axis.ticks:
                plot.annotate(
                    text,
                    (number, height),
                    # Lines end at the height of a tick: beside it they would cross its text.
                    xytext=(4, 5),
                    textcoords="offset points",
                    va="center",
                    fontsize=8,
                    color=SOFT,
                    parse_math=False,
                )
        svg = to_svg(figure)
    # In a page the namespaces are implied.
    head, rest = svg.split(">", 1)
    head = " ".join(part for part in head.split() if not part.startswith("xmlns"))
    for trial in trials:
        opening = f'<g id="{_gid(trial)}">'
        rest = rest.replace(opening, f"{opening}<title>{escape(_tooltip(trial))}</title>", 1)
    return f"{head}>{rest}"


def _gid(trial: Trial) -> str:
    return f"trial-{trial.name}"


def _tooltip(trial: Trial) -> str:
    lines = [f"trial {trial.name}: {trial.score:.4f}"]
    lines += [f"{name} {_text(value)}" for name, value in sorted(trial.hyperparameters.items())]
    return "\n".join(lines)


def _axis(name: str, values: list[Any], logarithmic: bool) -> Axis:
    height, ticks = _scale(values, logarithmic=logarithmic)
    return Axis(name=name, heights=[height(value) for value in values], ticks=ticks)


def _scale(
    values: list[Any], *, logarithmic: bool
) -> tuple[Callable[[Any], float], list[tuple[float, str]]]:
    """A function from a value to its height, and the ticks."""
    distinct = set(values)
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in distinct)
    if not numbers or len(distinct) <= 6:
        # At equal distances: between the choices of a list there is nothing.
        ordered = sorted(distinct) if numbers else sorted(distinct, key=str)
        share = {value: _share(number, len(ordered)) for number, value in enumerate(ordered)}
        return share.__getitem__, [(y, _text(value)) for value, y in share.items()]
    logarithmic = logarithmic and min(distinct) > 0
    bend = math.log if logarithmic else float
    low, high = bend(min(distinct)), bend(max(distinct))

    def scale(value: float) -> float:
        return (bend(value) - low) / (high - low)

    shares = [n / 4 for n in range(5)]
    ends = [low + share * (high - low) for share in shares]
    marks = [math.exp(end) if logarithmic else end for end in ends]
    return scale, [(share, _text(mark)) for share, mark in zip(shares, marks, strict=True)]


def _share(number: int, count: int) -> float:
    return number / (count - 1) if count > 1 else 0.5


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
