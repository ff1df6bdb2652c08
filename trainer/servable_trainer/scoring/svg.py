"""Matplotlib figures as SVG that follows the reader's light or dark mode and fetches nothing."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Placeholder colours: matplotlib draws with the keys, which it would not choose by itself, and each
# becomes a CSS variable with a value for light and one for dark mode.
_COLOURS = {
    "#010101": ("ink", "#1b1f24", "#e6edf3"),
    "#020202": ("soft", "#5b6470", "#9aa4af"),
    "#030303": ("line", "#d5dae0", "#343b44"),
    "#040404": ("accent", "#0b63c5", "#62aaff"),
    "#050505": ("other", "#b35900", "#f0a050"),
}
INK, SOFT, LINE, ACCENT, OTHER = _COLOURS
STYLE: Any = {
    # Text stays text: small, sharp and searchable.
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": SOFT,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": LINE,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "legend.frameon": False,
}


def to_svg(figure: Figure) -> str:
    """A figure, drawn in `STYLE`, as an SVG element; equal figures give equal text."""
    figure.patch.set_alpha(0)
    for axes in figure.axes:
        axes.patch.set_alpha(0)
    buffer = io.StringIO()
    # Without a date and random ids the output is reproducible.
    nothing: dict[str, Any] = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with mpl.rc_context({"svg.hashsalt": "servable"}):
        figure.savefig(buffer, format="svg", metadata=nothing)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]  # the prologue refers to a DTD on another host
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
