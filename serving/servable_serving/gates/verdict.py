"""What a gate found out about a candidate."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from servable_client import ServableError

GATES = ("structure", "operations", "trial", "accuracy", "latency", "size")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The outcome of one gate.

    Attributes:
        gate: One of `GATES`.
        outcome: "passed", "failed" or "skipped".
        said: One sentence, with the figures.
        seconds: How long it took.
        figures: The same for machines; JSON can hold it.
    """

    gate: str
    outcome: str
    said: str
    seconds: float
    figures: dict[str, Any]


class GateError(ServableError):
    """A candidate was refused at a gate.

    Attributes:
        finding: That gate's.
    """

    def __init__(self, finding: Finding, *, hint: str | None = None) -> None:
        super().__init__(f"refused at the gate {finding.gate!r}: {finding.said}", hint=hint)
        self.finding = finding


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a gate says that lets a candidate through, or that has nothing to hold it against."""

    said: str
    figures: dict[str, Any] = field(default_factory=dict)
    outcome: str = "passed"


class Refused(ServableError):
    """What a gate says that does not; its figures are those of the finding."""

    def __init__(
        self, said: str, *, hint: str | None = None, figures: dict[str, Any] | None = None
    ) -> None:
        super().__init__(said, hint=hint)
        self.figures = figures or {}


@dataclass(frozen=True, kw_only=True)
class Tolerances:
    """How much worse than the served version a candidate may be.

    Attributes:
        accuracy: How far its share of right answers may lie below, 0 to 1.
        latency: How many times as long its answers may take; half a millisecond more is never
            too much.
        size: How many times as large it may be; a mebibyte more is never too much.
    """

    accuracy: float = 0.005
    latency: float = 1.5
    size: float = 2.0
