"""The plots of reports and comparisons, as SVG."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib.figure import Figure

from servable_trainer.scoring.svg import ACCENT, OTHER, SOFT, STYLE, to_svg

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox

    from servable_trainer.evaluation.robustness import RobustnessPoint
    from servable_trainer.scoring.metrics import Bin


def reliability_plot(bins: Sequence[Bin]) -> str:
    """A reliability diagram: accuracy against confidence, as SVG."""
    some = [b for b in bins if b.count]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.4, 4.2), layout="constrained")
        axes, below = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": (3, 1)})
        axes.plot([0, 1], [0, 1], color=SOFT, linestyle="--", linewidth=1)
        axes.bar(
            [b.low for b in some],
            [b.accuracy for b in some],
            width=[b.high - b.low for b in some],
            align="edge",
            color=ACCENT,
            alpha=0.3,
        )
        axes.plot(
            [b.confidence for b in some],
            [b.accuracy for b in some],
            color=ACCENT,
            marker="o",
            markersize=4,
        )
        axes.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.02))
        below.bar(
            [b.low for b in some],
            [b.count for b in some],
            width=[b.high - b.low for b in some],
            align="edge",
            color=SOFT,
        )
        below.set(
            xlabel="confidence (probability of the predicted class)", ylabel="images", yscale="log"
        )
        return to_svg(figure)


def robustness_plot(found: Sequence[RobustnessPoint]) -> str:
    """Accuracy against the level of each disturbance, as SVG."""
    clean = next(d for d in found if d.disturbance == "none")
    kinds = list(dict.fromkeys(d.disturbance for d in found if d.disturbance != "none"))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.4, 1.9 * len(kinds)), layout="constrained")
        for axes, kind in zip(
            figure.subplots(len(kinds), 1, sharey=True, squeeze=False)[:, 0], kinds, strict=True
        ):
            points = [clean, *(d for d in found if d.disturbance == kind)]
            levels = [d.level for d in points]
            axes.fill_between(
                levels,
                [d.interval[0] for d in points],
                [d.interval[1] for d in points],
                color=ACCENT,
                alpha=0.2,
                linewidth=0,
            )
            axes.plot(levels, [d.accuracy for d in points], color=ACCENT, marker="o", markersize=4)
            axes.set(
                xlabel=f"{kind}: {points[-1].unit}",
                ylabel="accuracy",
                ylim=(0, 1.02),
                xticks=levels,
            )
        return to_svg(figure)


def cost_plot(
    points: Sequence[tuple[str, float, float, float, bool]], *, best: str | None = None
) -> str:
    """Accuracy against the cost of a prediction, as SVG.

    Args:
        points: For each classifier: its name, CPU-milliseconds per image, accuracy, size in bytes,
            and whether it is a network.
        best: The name of the one to highlight.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 4.4), layout="constrained")
        axes = figure.subplots()
        largest = max((size for *_, size, _ in points), default=1) or 1
        names = []
        for name, cost, accuracy, size, network in points:
            colour = OTHER if network else ACCENT
            axes.scatter(
                [cost],
                [accuracy],
                s=12 + 900 * size / largest,
                color=colour,
                alpha=0.35,
                linewidth=0,
            )
            axes.scatter([cost], [accuracy], s=10, color=colour)
            names.append(_name(axes, name, (cost, accuracy), bold=name == best))
        axes.set(xlabel="CPU-milliseconds per image", ylabel="test accuracy", xscale="log")
        axes.margins(x=0.18, y=0.18)
        _keep_apart(figure, names)
        return to_svg(figure)


def _keep_apart(figure: Figure, names: list[Annotation]) -> None:
    """Move a name below its point if it would overlap another."""
    figure.draw_without_rendering()
    placed: list[Bbox] = []
    for name in names:
        if any(name.get_window_extent().overlaps(other) for other in placed):
            name.set(position=(0, -7), verticalalignment="top")
        placed.append(name.get_window_extent())


def _name(axes: Axes, name: str, at: tuple[float, float], *, bold: bool) -> Annotation:
    return axes.annotate(
        name,
        at,
        xytext=(0, 7),
        textcoords="offset points",
        ha="center",
        fontsize=9,
        fontweight="bold" if bold else "normal",
        parse_math=False,  # a name may hold dollars
    )
