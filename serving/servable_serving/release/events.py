"""The history of a model's versions, in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from servable_serving.repository.history import Event

# The gates whose sentences have figures that are compared between versions.
_FIGURES = ("accuracy", "latency", "size")


@dataclass(frozen=True, kw_only=True)
class Happened:
    """An event.

    Attributes:
        when: ISO 8601, in UTC; None if unknown.
        who: user@machine; None if unknown.
        what: "publish", "push", "promote", "rollback", "adopt", "canary", "reject", "prune", ...
        version: The version; None if it concerns none.
        label: The label that moved to it, or None.
        before: The version that had the label before, or None.
        why: The reason, or None.
        gates: The gates of a published version: each with `gate`, `outcome` and `said`.
    """

    when: str | None
    who: str | None
    what: str
    version: int | None
    label: str | None
    before: int | None
    why: str | None
    gates: Sequence[dict[str, Any]]

    @property
    def told(self) -> str:
        """What happened, a line for each fact."""
        lines = []
        if self.label is not None:
            moved = "" if self.before is None else f" from version {self.before}"
            lines.append(f"{self.label} moved{moved} to version {self.version}")
        if self.why:
            lines.append(self.why)
        lines += [
            f"{gate['gate']}: {gate['said']}"
            if gate["outcome"] == "passed"
            else f"{gate['gate']} {gate['outcome']}: {gate['said']}"
            for gate in self.gates
            if gate["gate"] in _FIGURES or gate["outcome"] != "passed"
        ]
        return "\n".join(lines)


def happened(
    found: Iterable[Event], *, version: int | None = None, last: int | None = None
) -> list[Happened]:
    """The events of a history, oldest first.

    Args:
        found: The events as they are kept; facts of other types than expected are left out.
        version: Leave out the events that do not concern this version.
        last: How many at most, the latest.
    """
    events = [_read(one) for one in found]
    if version is not None:
        events = [one for one in events if version in (one.version, one.before)]
    return events if last is None else events[max(len(events) - last, 0) :]


def _read(one: Event) -> Happened:
    return Happened(
        when=_text(one, "when"),
        who=_text(one, "who"),
        what=str(one["what"]),
        version=_number(one, "version"),
        label=_text(one, "label"),
        before=_number(one, "before"),
        why=_why(one),
        gates=_gates(one.get("gates")),
    )


def _why(one: Event) -> str | None:
    """The reason of an event: a user's, or that of a failed step or trial."""
    reason = _text(one, "why") or _text(one, "reason")
    about = _text(one, "outcome") or (f"at {step}" if (step := _text(one, "step")) else None)
    return ": ".join(part for part in (about, reason) if part) or None


def _gates(found: object) -> list[dict[str, Any]]:
    return [
        {name: str(gate.get(name, "")) for name in ("gate", "outcome", "said")}
        for gate in (found if isinstance(found, list) else [])
        if isinstance(gate, dict)
    ]


def _text(one: Event, name: str) -> str | None:
    value = one.get(name)
    return value if isinstance(value, str) else None


def _number(one: Event, name: str) -> int | None:
    value = one.get(name)
    return value if isinstance(value, int) else None
