"""Verdicts and findings of the gates."""

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
        seconds: Its duration.
        figures: The same as JSON values.
    """

    gate: str
    outcome: str
    said: str
    seconds: float
    figures: dict[str, Any]


class GateError(ServableError):
    """A candidate failed a gate.

    Attributes:
        finding: The finding of that gate.
    """

    def __init__(self, finding: Finding, *, hint: str | None = None) -> None:
        super().__init__(f"gate {finding.gate!r} failed: {finding.said}", hint=hint)
        self.finding = finding


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The result of a gate that a candidate passes, or that has nothing to check."""

    said: str
    figures: dict[str, Any] = field(default_factory=dict)
    outcome: str = "passed"


class Refused(ServableError):
    """A candidate fails a gate; the figures are those of the finding."""

    def __init__(
        self, said: str, *, hint: str | None = None, figures: dict[str, Any] | None = None
    ) -> None:
        super().__init__(said, hint=hint)
        self.figures = figures or {}


@dataclass(frozen=True, kw_only=True)
class Tolerances:
    """How much worse than the served version a candidate may be.

    Attributes:
        accuracy: Maximum drop in accuracy, 0 to 1.
        latency: Maximum latency relative to the served version's; half a millisecond more is
            always allowed.
        size: Maximum size relative to the served version's; a mebibyte more is always allowed.
        memory: MiB that a request of the trial may add to the memory of the server, which has
            loaded and warmed up the candidate.
    """

    accuracy: float = 0.005
    latency: float = 1.5
    size: float = 2.0
    memory: float = 2048.0
