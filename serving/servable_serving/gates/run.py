"""The gates: what a candidate must pass before it is brought into the model repository.

    for finding in inspect(candidate, served=Path("models/fashion_mnist/1"), holdout=None):
        print(finding.gate, finding.outcome, finding.said)

From the cheapest to the dearest, and none runs a graph in this process before `operations` has
seen what is in it and `trial` has seen it run in another.
"""

from __future__ import annotations

import time
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from servable_client import InvalidInput, ServableError
from servable_serving.gates.holdout import Holdout, find_holdout
from servable_serving.gates.verdict import GATES, Finding, GateError, Refused, Tolerances, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

__all__ = [
    "GATES",
    "Finding",
    "GateError",
    "Holdout",
    "Tolerances",
    "check_skips",
    "find_holdout",
    "inspect",
]


def inspect(
    candidate: Path,
    *,
    served: Path | None,
    holdout: Holdout | None,
    skip: Mapping[str, str] = MappingProxyType({}),
    tell: Callable[[Finding], object] = lambda _: None,
    tolerances: Tolerances | None = None,
    server: Path | None = None,
) -> list[Finding]:
    """Hold a candidate against every gate, in order.

    Args:
        candidate: A folder as `export` writes it; nothing in it is changed.
        served: The folder of the version that is served now, to compare with; None where there
            is none.
        holdout: Pictures that neither version learnt from, with their classes; without, the gate
            of the accuracy has nothing to say.
        skip: The gates to leave out, each with the reason why.
        tell: Called with each finding as soon as there is one, that of a failure too.
        tolerances: How much worse than what is served it may be.
        server: A tensorflow_model_server for the trial; `servable serve` unless given.

    Returns:
        A finding for each gate.

    Raises:
        GateError: The first gate that refuses it; the gates after that are not tried.
        InvalidInput: `skip` names what is no gate, or the one that cannot be left out.
    """
    check_skips(skip)
    limits = tolerances or Tolerances()

    # Each imports TensorFlow, if it needs it, when its turn comes.
    def structure() -> Verdict:
        from servable_serving.gates.structure import check_structure

        return check_structure(candidate, served)

    def operations() -> Verdict:
        from servable_serving.gates.operations import check_operations

        return check_operations(candidate)

    def trial() -> Verdict:
        from servable_serving.gates.trial.trial import try_out

        return try_out(candidate, server)

    def accuracy() -> Verdict:
        from servable_serving.gates.accuracy import compare_accuracy

        return compare_accuracy(candidate, served, holdout, limits.accuracy)

    def latency() -> Verdict:
        from servable_serving.gates.cost import compare_latency

        return compare_latency(candidate, served, holdout, limits.latency)

    def size() -> Verdict:
        from servable_serving.gates.cost import compare_size

        return compare_size(candidate, served, limits.size)

    steps = (structure, operations, trial, accuracy, latency, size)
    findings = []
    for gate, step in zip(GATES, steps, strict=True):
        if gate in skip:
            finding = Finding(
                gate=gate, outcome="skipped", said=f"skipped: {skip[gate]}", seconds=0.0,
                figures={"why": skip[gate]},
            )  # fmt: skip
            hint = None
        else:
            finding, hint = _pass(gate, step)
        tell(finding)
        if finding.outcome == "failed":
            raise GateError(finding, hint=hint)
        findings.append(finding)
    return findings


def check_skips(skip: Mapping[str, str]) -> None:
    """Refuse to leave out what is no gate, what cannot be left out, or without saying why.

    Raises:
        InvalidInput: So it is.
    """
    for gate, why in skip.items():
        if gate not in GATES:
            raise InvalidInput(f"there is no gate {gate!r}", hint=f"there are {', '.join(GATES)}")
        if gate == "structure":
            raise InvalidInput(
                "the gate 'structure' cannot be skipped: without it nobody knows what the files are"
            )
        if not why.strip():
            raise InvalidInput(f"the gate {gate!r} cannot be skipped without saying why")


def _pass(gate: str, step: Callable[[], Verdict]) -> tuple[Finding, str | None]:
    began = time.monotonic()
    figures: dict[str, Any]
    hint = None
    try:
        verdict = step()
        outcome, said, figures = verdict.outcome, verdict.said, verdict.figures
    except Refused as error:
        outcome, said, figures, hint = "failed", error.message, error.figures, error.hint
    except ServableError as error:
        outcome, said, figures, hint = "failed", error.message, {}, error.hint
    seconds = round(time.monotonic() - began, 3)
    return Finding(gate=gate, outcome=outcome, said=said, seconds=seconds, figures=figures), hint
