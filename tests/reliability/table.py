"""The tables of what each fault did, at the end of a run."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from io import StringIO
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest

_HEADINGS = {
    "late": "latest, s",
    "back": "back after, s",
    "memory": "memory, MiB",
}
_WIDTH = 110


@dataclass(frozen=True, kw_only=True)
class Row:
    """What a fault did.

    Attributes:
        fault: Its name.
        calls: How many calls were made.
        wrong: Of these, those with a wrong answer.
        failed: Of these, those with an error.
        late: Seconds by which the latest call ended after its deadline, at least 0.
        back: Seconds from the end of the fault until every kind of caller had an answer.
        memory: MiB that the server has more than before.
        threads: Threads that it has more.
        descriptors: Open files and sockets that it has more.
    """

    fault: str
    calls: int
    wrong: int
    failed: int
    late: float
    back: float
    memory: int
    threads: int
    descriptors: int


@dataclass(frozen=True, kw_only=True)
class ClientRow:
    """What a fault of the connections of one client did.

    Attributes:
        fault: Its name.
        client: The kind of client.
        calls: How many calls were made, one after another.
        failed: Of these, those with an error.
        late: Seconds by which the latest call ended after its deadline, at least 0.
    """

    fault: str
    client: str
    calls: int
    failed: int
    late: float


_TABLES: dict[type[Row | ClientRow], str] = {
    Row: "reliability: what each fault did",
    ClientRow: "reliability: calls over connections that died",
}


def as_property(row: Row | ClientRow) -> tuple[str, dict[str, object]]:
    """A row as a property of a test's report, which workers send as plain values."""
    return _TABLES[type(row)], asdict(row)


class FaultTable:
    """Prints the rows of all tests that have some."""

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the tables."""
        properties = [
            (name, values)
            for reports in terminalreporter.stats.values()
            for report in reports
            for name, values in getattr(report, "user_properties", ())
            if getattr(report, "when", None) == "call" and isinstance(values, dict)
        ]
        for kind, title in _TABLES.items():
            rows = [kind(**values) for name, values in properties if name == title]
            if rows:
                terminalreporter.section(title)
                for line in render(rows).splitlines():
                    terminalreporter.write_line(line.rstrip())


def render(rows: Sequence[Row | ClientRow]) -> str:
    """Rows of one kind as a table in text."""
    table = Table(box=None)
    for field in fields(rows[0]):
        heading = _HEADINGS.get(field.name, field.name)
        table.add_column(heading, justify="left" if field.type == "str" else "right")
    for row in sorted(rows, key=lambda row: (row.fault, getattr(row, "client", ""))):
        values = asdict(row).values()
        table.add_row(*(f"{v:.2f}" if isinstance(v, float) else str(v) for v in values))
    console = Console(file=StringIO(), width=_WIDTH, color_system=None)
    with console.capture() as captured:
        console.print(table)
    return captured.get()
