"""A comparison as a table, as a Markdown page with a plot, and as JSON."""

from __future__ import annotations

import json
import os
import platform
import shlex
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from servable_trainer.evaluation.report import ReportError, check_writable, write_file

if TYPE_CHECKING:
    from pathlib import Path

    from servable_trainer.comparison.compare import Comparison
    from servable_trainer.comparison.contender import Contender, Rule

_COLUMNS = (
    "classifier", "accuracy", "95 %", "macro F1", "fit CPU-s", "CPU-ms", "MB",
)  # fmt: skip


def check_page(path: Path) -> None:
    """Check that a page can be written, before any work is done for it.

    Raises:
        ReportError: `path` is not a Markdown file name, or its directory cannot be written.
    """
    if path.suffix != ".md":
        raise ReportError(
            f"{path} is not a Markdown file name", hint=f"name it {path.with_suffix('.md').name}"
        )
    check_writable(path, path.with_suffix(".svg"), path.with_suffix(".json"))


def print_comparison(comparison: Comparison) -> None:
    """Print it as a table."""
    from servable_client.cli.console import print_table

    print_table(
        _COLUMNS,
        [_cells(one) for one in comparison.contenders],
        title=f"{comparison.dataset}, {comparison.test} test images",
    )


def write_page(path: Path, comparison: Comparison, *, rule: Rule, best: Contender | None) -> None:
    """Write the Markdown to `path`, and the plot (.svg) and JSON next to it.

    Raises:
        ReportError: They cannot be written.
    """
    from servable_trainer.evaluation.plots import cost_plot

    check_page(path)
    plot = cost_plot(
        [
            (one.name, one.predict_cpu_ms, one.accuracy, one.size, one.network)
            for one in comparison.contenders
        ],
        best=best.name if best else None,
    )
    write_file(path.with_suffix(".svg"), plot)
    text = json.dumps(as_dict(comparison, rule=rule, best=best), indent=1, ensure_ascii=False)
    write_file(path.with_suffix(".json"), text + "\n")
    write_file(path, _page(path, comparison, rule=rule, best=best))


def as_dict(comparison: Comparison, *, rule: Rule, best: Contender | None) -> dict[str, Any]:
    """All of it, for JSON."""
    return {**comparison.as_dict(), "rule": vars(rule), "best": best.name if best else None}


def _page(path: Path, comparison: Comparison, *, rule: Rule, best: Contender | None) -> str:
    rows = [_COLUMNS, ("---", *["---:"] * (len(_COLUMNS) - 1))]
    rows += [
        tuple(f"**{cell}**" if one == best else cell for cell in map(_escaped, _cells(one)))
        for one in comparison.contenders
    ]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    settings = "\n".join(
        f"- {_escaped(one.name)}: {_escaped(one.settings)}"
        + (f"; trained on {one.pictures:,} images" if one.pictures else "")
        for one in comparison.contenders
    )
    where = path.name if path.is_absolute() else path.as_posix()
    networks = [one.name for one in comparison.contenders if one.network]
    command = shlex.join(["servable", "compare", *networks, "--output", where])
    verdict = f"The best is {_escaped(best.name)}" if best else "None fits the budget"
    return f"""# The network against classic methods

{verdict} ({rule}).

Measured on {comparison.test:,} test images of {comparison.dataset} by
`{command}` on \
{datetime.now(UTC):%Y-%m-%d} ({platform.system()} {platform.machine()}, {os.cpu_count()} cores);
all of it took {comparison.cpu_seconds / 60:.1f} CPU-minutes.

{table}

![Test accuracy against CPU-milliseconds per image, both in the table]({path.stem}.svg)

In the plot, the area of a circle is the size on disk; networks have another colour.

- *95 %*: confidence interval of the accuracy (Wilson).
- *fit CPU-s*: processor time of the training; in brackets the duration if that was not measured.
- *CPU-ms*: processor time per image, all threads, in large batches.
- *MB*: millions of bytes of the pickle, of the SavedModel, or of Keras' file.

Settings:

{settings}
"""


def _cells(one: Contender) -> tuple[str, ...]:
    low, high = one.interval
    if one.fit_cpu_seconds is not None:
        fit = f"{one.fit_cpu_seconds:.1f}"
    else:
        fit = "unknown" if one.fit_seconds is None else f"({one.fit_seconds:.0f} s)"
    return (
        one.name,
        f"{one.accuracy:.4f}",
        f"{low:.3f}-{high:.3f}",
        f"{one.macro_f1:.4f}",
        fit,
        f"{one.predict_cpu_ms:.4f}",
        f"{one.size / 1e6:.2f}",
    )


def _escaped(text: str) -> str:
    """Escape Markdown in the name of a directory."""
    for letter in "\\|*_`[]<>":
        text = text.replace(letter, f"\\{letter}")
    return " ".join(text.split())
