"""Output of commands: results to standard output, all else to standard error."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from servable_client.cli.hints import for_command

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console
    from rich.progress import Progress

    from servable_client._errors import ServableError


# The width of output that is not a terminal, and the minimum width of a column.
_MAX_WIDTH = 1000
_MIN_COLUMN = 10

# Control characters, which a terminal obeys; those of text are left. What a server or a file says
# must not move the cursor, rename the window or hide a line.
_CONTROL = [*range(0x20), *range(0x7F, 0xA0)]
_ESCAPED = {code: f"\\x{code:02x}" for code in _CONTROL if chr(code) not in "\t\n"}
# JSON escapes the others itself.
_ESCAPED_IN_JSON = {code: f"\\u{code:04x}" for code in range(0x7F, 0xA0)}


def printable(text: str) -> str:
    r"""A text with its control characters as escapes, such as `\x1b`."""
    return text.translate(_ESCAPED)


def console(*, stderr: bool = True) -> Console:
    """A rich console on one of the two standard streams."""
    from rich.console import Console

    # Without a terminal rich assumes 80 columns and would fold long lines in a log.
    return Console(stderr=stderr, highlight=False, soft_wrap=True, emoji=False)


def say(text: str) -> None:
    """Print one line of progress."""
    console().print(printable(text), markup=False)


def headline(text: str) -> None:
    """Print the heading of a stage."""
    console().print(f"\n{printable(text)}", style="bold", markup=False)


def print_json(value: Any) -> None:
    """Print a result as JSON."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    sys.stdout.write(text.translate(_ESCAPED_IN_JSON) + "\n")


def print_csv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a result as CSV (RFC 4180, with the line ends of this system)."""
    import csv

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None
) -> None:
    """Print a result as a table; columns of numbers are right-aligned."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    cells = [list(row) for row in rows]
    texts = [
        [f"{c:.4f}" if isinstance(c, float) else printable(str(c)) for c in row] for row in cells
    ]
    table = Table(title=Text(printable(title)) if title else None, title_justify="left")
    for index, column in enumerate(columns):
        numbers = bool(cells) and all(isinstance(row[index], int | float) for row in cells)
        words = " ".join([column, *(row[index] for row in texts)]).split()
        table.add_column(
            column,
            justify="right" if numbers else "left",
            # Fold rather than truncate, and preferably between words.
            overflow="fold",
            min_width=min(max(map(len, words), default=1), _MIN_COLUMN),
        )
    for row in texts:
        # As text, since `[...]` in a string is markup to rich.
        table.add_row(*map(Text, row))
    out = console(stderr=False)
    if not out.is_terminal:
        out.width = _MAX_WIDTH  # a file is not limited to 80 columns
    if sum(column.min_width or 0 for column in table.columns) + 3 * len(columns) >= out.width:
        # No room for lines between columns.
        table.box, table.show_edge, table.padding = box.SIMPLE, False, (0, 1, 0, 0)
    out.print(table)


def progress_bar() -> Progress:
    """A progress bar on standard error, shown on a terminal only."""
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
    """Print an error and its hint, if any."""
    sys.stderr.write(f"servable: {printable(str(error))}\n")
    if hint := for_command(error.hint):
        sys.stderr.write(f"  hint: {printable(hint)}\n")
