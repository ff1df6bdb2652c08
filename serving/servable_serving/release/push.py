"""Push: check a candidate at the gates, publish, load, smoke-test and label it.

The flow is the same for a folder with its servers and for a repository behind a URL; what differs
is the `Target`. If a step fails, servers continue to serve what they served before.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from servable_serving.core.signals import uninterrupted
from servable_serving.gates.run import inspect
from servable_serving.repository.candidate import Candidate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from servable_serving.gates.metric import Rows
    from servable_serving.gates.run import Finding, Holdout, Tolerances
    from servable_serving.release.steps import Steps


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a candidate is pushed.

    Args:
        promote: Move `stable` to it, in place of `canary`.
        dry_run: Run the gates only.
        skip: The gates to skip, with the reasons.
        holdout: Returns the images or rows that the accuracy is measured with.
        metric: What is measured of rows.
        tolerances: How much worse than the served version it may be.
        trial_server: A tensorflow_model_server for the trial; `servable serve` unless given.
        version: The version's number; the next unless given.
        prepare: Called before the gates; the commands import TensorFlow here, which takes seconds,
            so that a push that cannot succeed fails before.
    """

    promote: bool = False
    dry_run: bool = False
    skip: Mapping[str, str] = field(default_factory=dict)
    holdout: Callable[[], Holdout | Rows | None] = lambda: None
    metric: str = "accuracy"
    tolerances: Tolerances | None = None
    trial_server: Path | None = None
    version: int | None = None
    prepare: Callable[[], object] = lambda: None


class Target(Protocol):
    """Where a release goes: `FolderTarget` or `RemoteTarget`."""

    @property
    def location(self) -> str:
        """The repository's path or URL."""

    def describe(self, version: int) -> str:
        """A version and its location, for messages."""

    def labels(self) -> dict[str, int]:
        """The version of each label."""

    def check(self, plan: Plan) -> None:
        """Fail early, before minutes of gates, if a later step would fail."""

    def served(self, steps: Steps) -> AbstractContextManager[Path | None]:
        """The folder of the served version, to compare with; None if there is none."""

    def publishing(self, steps: Steps) -> AbstractContextManager[None]:
        """Hold the lock that keeps two pushes apart, for the block."""

    def publish(
        self, candidate: Candidate, steps: Steps, *, version: int | None, about: Mapping[str, Any]
    ) -> int:
        """Copy a candidate into the repository; returns its version, which no server loads yet."""

    def bring_up(self, version: int, candidate: Candidate, steps: Steps) -> None:
        """Have a version served, and smoke-test it there."""

    def quarantine(self, version: int, steps: Steps, error: BaseException) -> None:
        """Undo `publish` and `bring_up` of a version that failed."""

    def label(self, version: int, steps: Steps, *, promote: bool) -> None:
        """Give a version its label: `stable` if it is the first or is promoted, else `canary`."""

    def promote(self, version: int, steps: Steps, *, why: str | None = None) -> None:
        """Move `stable` to a version; `why` is for the history."""

    def roll_back(self, steps: Steps, *, to: int | None, why: str | None = None) -> int:
        """Move `stable` back, to what was promoted before or to a version; returns that."""


def push(candidate: Path | Candidate, target: Target, steps: Steps, plan: Plan) -> int | None:
    """Release a candidate.

    Args:
        candidate: A folder that `export` wrote; it is not modified.
        target: Where it goes.
        steps: Reports the steps.
        plan: How it is pushed.

    Returns:
        The version; None of a dry run.

    Raises:
        CandidateError: It is incomplete, or not as it was exported.
        GateError: It fails a gate.
        FolderError: The repository cannot be written.
        StoreError: The repository behind a URL cannot be reached or written.
        ReleaseError: It failed to load, failed its smoke test, or could not be labelled.
    """
    if not isinstance(candidate, Candidate):
        candidate = Candidate(candidate)
    target.check(plan)
    plan.prepare()
    with target.served(steps) as served:
        about = run_gates(candidate, served, steps, plan)
    if plan.dry_run:
        return None
    with target.publishing(steps):
        version = target.publish(candidate, steps, version=plan.version, about=about)
        try:
            target.bring_up(version, candidate, steps)
        except BaseException as error:
            with uninterrupted():
                target.quarantine(version, steps, error)
            raise
        target.label(version, steps, promote=plan.promote)
    return version


def run_gates(
    candidate: Candidate, served: Path | None, steps: Steps, plan: Plan
) -> dict[str, Any]:
    """Run the gates on a candidate.

    Args:
        candidate: The candidate.
        served: The version to compare it with, if there is one.
        steps: Reports the gates.
        plan: Which gates, and how strict.

    Returns:
        The findings, for the history.

    Raises:
        GateError: It fails one.
    """

    def tell(finding: Finding) -> None:
        steps.note(
            finding.gate, outcome=finding.outcome, said=finding.said, seconds=finding.seconds
        )

    findings = inspect(
        candidate,
        served=served,
        holdout=plan.holdout(),
        metric=plan.metric,
        skip=plan.skip,
        tell=tell,
        tolerances=plan.tolerances,
        server=plan.trial_server,
    )
    return {
        "skipped": dict(plan.skip),
        "gates": [{"gate": f.gate, "outcome": f.outcome, "said": f.said} for f in findings],
    }
