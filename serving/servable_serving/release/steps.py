"""The steps of a release, as the person who waits sees them: a line each, with its time."""

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
        outcome: How it ended: "passed", "failed" or "skipped".
        said: What came of it.
        seconds: How long it took.
    """

    name: str
    outcome: str = "passed"
    said: str = ""
    seconds: float = 0.0


class Steps:
    """Writes a step's name when it begins, and the rest of the line when it has ended.

    Args:
        out: Where to; standard error unless given, None for nowhere.
    """

    def __init__(self, out: IO[str] | None = sys.stderr) -> None:
        self.taken: list[Step] = []
        self._out = out

    @contextmanager
    def step(self, name: str) -> Iterator[Step]:
        """A step that lasts as long as the block; the block says what came of it."""
        step = Step(name)
        self._write(f"{name:<{_NAME_WIDTH}} ")
        began = time.monotonic()
        try:
            yield step
        except BaseException:
            step.outcome = "failed"
            step.said = "failed"
            raise
        finally:
            step.seconds = round(time.monotonic() - began, 3)
            self._write(f"{step.seconds:6.2f} s  {step.said}\n")
            self.taken.append(step)

    def note(self, name: str, *, outcome: str, said: str, seconds: float) -> None:
        """A step that has been taken by somebody else."""
        told = said if outcome == "passed" or said.startswith(outcome) else f"{outcome}: {said}"
        self._write(f"{name:<{_NAME_WIDTH}} {seconds:6.2f} s  {told}\n")
        self.taken.append(Step(name, outcome, said, round(seconds, 3)))

    def say(self, text: str) -> None:
        """A line between the steps."""
        self._write(f"{text}\n")

    def as_json(self) -> list[dict[str, Any]]:
        """The steps, for machines."""
        return [vars(step) for step in self.taken]

    def _write(self, text: str) -> None:
        if self._out is not None:
            self._out.write(text)
            self._out.flush()
