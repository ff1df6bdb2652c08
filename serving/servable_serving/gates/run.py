"""The gates: the checks that a candidate must pass before it is published.

    for finding in inspect(candidate, served=Path("models/fashion_mnist/1"), holdout=None):
        print(finding.gate, finding.outcome, finding.said)

From the cheapest to the most expensive. None runs a graph in this process before `operations` has
checked what is in it and `trial` has run it in another.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from servable_client import InvalidInput, ServableError
from servable_serving.gates.holdout import Holdout, find_holdout
from servable_serving.gates.inspected_version import InspectedVersion
from servable_serving.gates.metric import METRICS, Rows, compare_metric
from servable_serving.gates.requests import requests_of
from servable_serving.gates.verdict import GATES, Finding, GateError, Refused, Tolerances, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from servable_serving.repository.candidate import Candidate

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
    candidate: Path | Candidate,
    *,
    served: Path | None,
    holdout: Holdout | Rows | None,
    metric: str = "accuracy",
    skip: Mapping[str, str] = MappingProxyType({}),
    tell: Callable[[Finding], object] = lambda _: None,
    tolerances: Tolerances | None = None,
    server: Path | None = None,
) -> list[Finding]:
    """Check a candidate at every gate, in order.

    Args:
        candidate: A folder as `export` writes it; nothing in it is changed.
        served: The folder of the served version, to compare with; None if there is none.
        holdout: Images that neither version was trained on, with their classes, or for another
            model rows with what should be answered; without, the gate `accuracy` is skipped.
        metric: What is measured of rows: accuracy, macro_f1, auc, mae or rmse; of an output if
            ":" and its name follow.
        skip: The gates to skip, each with the reason.
        tell: Called with each finding as soon as its gate ends, also if it failed.
        tolerances: How much worse than the served version it may be.
        server: A tensorflow_model_server for the trial; `servable serve` unless given.

    Returns:
        A finding for each gate.

    Raises:
        GateError: The first gate that it fails; the gates after that are not run.
        InvalidInput: `skip` names an unknown gate, or the one that cannot be skipped.
    """
    check_skips(skip)
    with InspectedVersion(candidate) as version:
        if served is None:
            gates = _gates(version, None, holdout, metric, tolerances or Tolerances(), server)
            return _run(gates, skip, tell)
        with InspectedVersion(served) as current:
            gates = _gates(version, current, holdout, metric, tolerances or Tolerances(), server)
            return _run(gates, skip, tell)


def _gates(
    candidate: InspectedVersion,
    served: InspectedVersion | None,
    holdout: Holdout | Rows | None,
    metric: str,
    limits: Tolerances,
    server: Path | None,
) -> dict[str, Callable[[], Verdict]]:
    """The gates by name, in order; each imports TensorFlow, if it needs it, when it runs."""

    def structure() -> Verdict:
        from servable_serving.gates.structure import check_structure

        return check_structure(candidate, served)

    def operations() -> Verdict:
        from servable_serving.gates.operations import check_operations

        return check_operations(candidate.meta_graph)

    def trial() -> Verdict:
        from servable_serving.gates.trial.trial import try_out

        return try_out(candidate, server, memory=limits.memory)

    def accuracy() -> Verdict:
        from servable_serving.gates.accuracy import compare_accuracy

        manifest = candidate.files.manifest
        if holdout is None and served is not None and (data := evaluated_on(manifest)) is not None:
            # Whoever has evaluated it can compare it, too.
            raise Refused(
                f"the candidate was evaluated on {data}, and is not compared with the served "
                "version on anything",
                hint="name held-out data with --holdout, or skip the gate 'accuracy' with a reason",
            )
        if isinstance(holdout, Rows):
            return compare_metric(
                candidate, served, candidate.contract, holdout, metric, limits.accuracy
            )
        if not candidate.files.is_classifier:
            return Verdict(
                outcome="skipped",
                said="the model is not an image classifier; measure it with --holdout FILE.npz "
                f"and --metric {'|'.join(METRICS)}",
            )
        return compare_accuracy(candidate, served, holdout, limits.accuracy)

    def latency() -> Verdict:
        from servable_serving.gates.cost import compare_latency, compare_latency_of_requests

        if not candidate.files.is_classifier:
            requests = requests_of(candidate)
            return compare_latency_of_requests(candidate, served, requests, limits.latency)
        images = None if isinstance(holdout, Rows) else holdout
        return compare_latency(candidate, served, images, limits.latency)

    def size() -> Verdict:
        from servable_serving.gates.cost import judge_size

        return judge_size(candidate.size, None if served is None else served.size, limits.size)

    return dict(zip(GATES, (structure, operations, trial, accuracy, latency, size), strict=True))


def evaluated_on(manifest: Mapping[str, Any]) -> str | None:
    """The name of the data that the metrics in a manifest were measured on; None without any."""
    metrics = manifest.get("metrics")
    if not isinstance(metrics, Mapping) or not any(metrics.values()):
        return None
    dataset = manifest.get("dataset")
    name = dataset.get("name") if isinstance(dataset, Mapping) else None
    return str(name or "held-out data")


def _run(
    gates: Mapping[str, Callable[[], Verdict]],
    skip: Mapping[str, str],
    tell: Callable[[Finding], object],
) -> list[Finding]:
    findings = []
    for gate, check in gates.items():
        hint = None
        if gate in skip:
            finding = Finding(
                gate=gate, outcome="skipped", said=skip[gate], seconds=0.0,
                figures={"why": skip[gate]},
            )  # fmt: skip
        else:
            finding, hint = _pass(gate, check)
        tell(finding)
        if finding.outcome == "failed":
            raise GateError(finding, hint=hint)
        findings.append(finding)
    return findings


def check_skips(skip: Mapping[str, str]) -> None:
    """Refuse to skip an unknown gate, one that cannot be skipped, or any without a reason.

    Raises:
        InvalidInput: One of these.
    """
    for gate, why in skip.items():
        if gate not in GATES:
            raise InvalidInput(f"there is no gate {gate!r}", hint=f"there are {', '.join(GATES)}")
        if gate == "structure":
            raise InvalidInput(
                "the gate 'structure' cannot be skipped: it verifies the files that are published"
            )
        if not why.strip():
            raise InvalidInput(f"the gate {gate!r} cannot be skipped without a reason")


def _pass(gate: str, check: Callable[[], Verdict]) -> tuple[Finding, str | None]:
    began = time.monotonic()
    figures: dict[str, Any]
    hint = None
    try:
        verdict = check()
        outcome, said, figures = verdict.outcome, verdict.said, verdict.figures
    except Refused as error:
        outcome, said, figures, hint = "failed", error.message, error.figures, error.hint
    except ServableError as error:
        outcome, said, figures, hint = "failed", error.message, {}, error.hint
    seconds = round(time.monotonic() - began, 3)
    return Finding(gate=gate, outcome=outcome, said=said, seconds=seconds, figures=figures), hint
