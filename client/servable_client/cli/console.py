"""What a command prints: results to standard output, all else to standard error."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console
    from rich.progress import Progress

    from servable_client._errors import ServableError


# Columns of what is no terminal, and the letters of a word that is not broken where there are few.
_WIDEST = 1000
_WORD = 10


def console(*, stderr: bool = True) -> Console:
    """A rich console on one of the two standard streams."""
    from rich.console import Console

    # Without a terminal rich assumes 80 columns and would fold long lines in a log.
    return Console(stderr=stderr, highlight=False, soft_wrap=True, emoji=False)


def say(text: str) -> None:
    """One line of what is going on, for the person who waits."""
    console().print(text, markup=False)


def headline(text: str) -> None:
    """One line that opens a stage."""
    console().print(f"\n{text}", style="bold", markup=False)


def print_json(value: Any) -> None:
    """A result, for machines."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def print_csv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A result, for spreadsheets (RFC 4180, with this system's line ends)."""
    import csv

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None
) -> None:
    """A result, for people; a column is set to the right where its cells are numbers."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    cells = [list(row) for row in rows]
    texts = [[f"{c:.4f}" if isinstance(c, float) else str(c) for c in row] for row in cells]
    table = Table(title=Text(title) if title else None, title_justify="left")
    for index, column in enumerate(columns):
        numbers = bool(cells) and all(isinstance(row[index], int | float) for row in cells)
        words = " ".join([column, *(row[index] for row in texts)]).split()
        table.add_column(
            column,
            justify="right" if numbers else "left",
            # Rather on two lines than without its end, and rather between words.
            overflow="fold",
            min_width=min(max(map(len, words), default=1), _WORD),
        )
    for row in texts:
        # As text, since `[...]` in a string is markup to rich.
        table.add_row(*map(Text, row))
    out = console(stderr=False)
    if not out.is_terminal:
        out.width = _WIDEST  # nobody looks at a file through 80 columns
    if sum(column.min_width or 0 for column in table.columns) + 3 * len(columns) >= out.width:
        # No room for lines between columns.
        table.box, table.show_edge, table.padding = box.SIMPLE, False, (0, 1, 0, 0)
    out.print(table)


def progress_bar() -> Progress:
    """A progress bar on standard error that only a terminal sees."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    err = console()
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=err,
        disable=not err.is_terminal,
        transient=True,
    )


def print_error(error: ServableError) -> None:
    """One sentence and, where there is one, what to do about it."""
    sys.stderr.write(f"servable: {error}\n")
    if error.hint:
        sys.stderr.write(f"  hint: {error.hint}\n")
