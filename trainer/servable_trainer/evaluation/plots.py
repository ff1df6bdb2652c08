"""Plots as SVG that follow the reader's light or dark, without a trace of another host."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox

    from servable_trainer.evaluation.robustness import Disturbed
    from servable_trainer.scoring.metrics import Bin

# Colours that stand for a part, light and dark; the SVG's own style sheet chooses. Matplotlib
# draws with the first, which are no colours that it would choose itself.
_COLOURS = {
    "#010101": ("ink", "#1b1f24", "#e6edf3"),
    "#020202": ("soft", "#5b6470", "#9aa4af"),
    "#030303": ("line", "#d5dae0", "#343b44"),
    "#040404": ("accent", "#0b63c5", "#62aaff"),
    "#050505": ("other", "#b35900", "#f0a050"),
}
_INK, _SOFT, _LINE, _ACCENT, _OTHER = _COLOURS
_STYLE: Any = {
    # Letters stay letters: small, sharp, and found by a search.
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _SOFT,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": _LINE,
    "xtick.color": _SOFT,
    "ytick.color": _SOFT,
    "legend.frameon": False,
}


def reliability_plot(bins: Sequence[Bin]) -> str:
    """How often a classifier is right against how sure it is, as SVG."""
    some = [b for b in bins if b.count]
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(4.4, 4.2), layout="constrained")
        axes, below = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": (3, 1)})
        axes.plot([0, 1], [0, 1], color=_SOFT, linestyle="--", linewidth=1)
        axes.bar(
            [b.low for b in some],
            [b.accuracy for b in some],
            width=[b.high - b.low for b in some],
            align="edge",
            color=_ACCENT,
            alpha=0.3,
        )
        axes.plot(
            [b.confidence for b in some],
            [b.accuracy for b in some],
            color=_ACCENT,
            marker="o",
            markersize=4,
        )
        axes.set(ylabel="share named rightly", xlim=(0, 1), ylim=(0, 1.02))
        below.bar(
            [b.low for b in some],
            [b.count for b in some],
            width=[b.high - b.low for b in some],
            align="edge",
            color=_SOFT,
        )
        below.set(xlabel="how sure (probability of the answer)", ylabel="pictures", yscale="log")
        return _svg(figure)


def robustness_plot(found: Sequence[Disturbed]) -> str:
    """Accuracy against the strength of each disturbance, as SVG."""
    clean = next(d for d in found if d.disturbance == "none")
    kinds = list(dict.fromkeys(d.disturbance for d in found if d.disturbance != "none"))
    with mpl.rc_context(_STYLE):
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
                color=_ACCENT,
                alpha=0.2,
                linewidth=0,
            )
            axes.plot(levels, [d.accuracy for d in points], color=_ACCENT, marker="o", markersize=4)
            axes.set(
                xlabel=f"{kind}: {points[-1].unit}",
                ylabel="accuracy",
                ylim=(0, 1.02),
                xticks=levels,
            )
        return _svg(figure)


def cost_plot(
    points: Sequence[tuple[str, float, float, float, bool]], *, best: str | None = None
) -> str:
    """Accuracy against the cost of an answer, as SVG.

    Args:
        points: Of each classifier: its name, CPU-milliseconds a picture, accuracy, size in bytes,
            and whether it is a network.
        best: The name of the one to mark.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(6.4, 4.4), layout="constrained")
        axes = figure.subplots()
        largest = max((size for *_, size, _ in points), default=1) or 1
        names = []
        for name, cost, accuracy, size, network in points:
            colour = _OTHER if network else _ACCENT
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
        axes.set(xlabel="CPU-milliseconds a picture", ylabel="test accuracy", xscale="log")
        axes.margins(x=0.18, y=0.18)
        _keep_apart(figure, names)
        return _svg(figure)


def _keep_apart(figure: Figure, names: list[Annotation]) -> None:
    """Put a name under its point where it would lie over another."""
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


def _svg(figure: Figure) -> str:
    figure.patch.set_alpha(0)
    for axes in figure.axes:
        axes.patch.set_alpha(0)
    buffer = io.StringIO()
    # Neither a date nor random names, so that the same figures give the same file.
    nothing: dict[str, Any] = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with mpl.rc_context({"svg.hashsalt": "servable"}):
        figure.savefig(buffer, format="svg", metadata=nothing)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]  # the prologue names a document type at another host
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = text.replace("'DejaVu Sans'", "system-ui, 'DejaVu Sans', sans-serif")
    for drawn, (name, _, _) in _COLOURS.items():
        text = text.replace(drawn, f"var(--{name})")
    style = "svg{{{}}}@media(prefers-color-scheme:dark){{svg{{{}}}}}".format(
        *(
            ";".join(f"--{name}:{pair[dark]}" for name, *pair in _COLOURS.values())
            for dark in (0, 1)
        )
    )
    head, rest = text.split(">", 1)
    return f"{head}><style>{style}</style>{rest}"
