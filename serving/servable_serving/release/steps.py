"""The steps of a release: progress lines with their durations."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAME_WIDTH = 10


@dataclass
class Step:
    """One step.

    Attributes:
        name: One word.
        outcome: "passed", "failed" or "skipped".
        said: The result, in words.
        seconds: Its duration.
    """

    name: str
    outcome: str = "passed"
    said: str = ""
    seconds: float = 0.0


class Steps:
    """Writes a step's name when it begins, and the rest of the line when it ends.

    Args:
        out: The stream; standard error unless given, None to write nothing.
    """

    def __init__(self, out: IO[str] | None = sys.stderr) -> None:
        self.taken: list[Step] = []
        self._out = out
        self._open = False  # whether the last line is that of a step that goes on

    @contextmanager
    def step(self, name: str) -> Iterator[Step]:
        """A step that lasts as long as the block, which sets its `said`."""
        step = Step(name)
        self._write(f"{name:<{_NAME_WIDTH}} ")
        self._open = True
        began = time.monotonic()
        try:
            yield step
        except BaseException:
            step.outcome = "failed"
            step.said = "failed"
            raise
        finally:
            step.seconds = round(time.monotonic() - began, 3)
            begun = "" if self._open else f"{name:<{_NAME_WIDTH}} "
            self._write(f"{begun}{step.seconds:6.2f} s  {step.said}\n")
            self._open = False
            self.taken.append(step)

    def note(self, name: str, *, outcome: str, said: str, seconds: float) -> None:
        """Report a step that was run by another function."""
        told = said if outcome == "passed" else f"{outcome}: {said}"
        self._write(f"{name:<{_NAME_WIDTH}} {seconds:6.2f} s  {told}\n")
        self.taken.append(Step(name, outcome, said, round(seconds, 3)))

    def say(self, text: str) -> None:
        """Write a line between the steps, or below the name of one that goes on."""
        self._write(f"\n{text}\n" if self._open else f"{text}\n")
        self._open = False

    def as_json(self) -> list[dict[str, Any]]:
        """The steps as JSON values."""
        return [vars(step) for step in self.taken]

    def _write(self, text: str) -> None:
        if self._out is not None:
            self._out.write(text)
            self._out.flush()
