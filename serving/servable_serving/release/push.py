"""Push: a candidate passes the gates, is published, waited for, tested where it runs, labelled.

Whatever fails, what was served before is served, and the version that failed is out of sight.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from servable_client import ServableError
from servable_serving.core.names import CANARY, STABLE
from servable_serving.gates.run import inspect
from servable_serving.release.fleet import ReleaseError
from servable_serving.release.smoke import bring_up
from servable_serving.repository.local import copy
from servable_serving.repository.manifest import check_candidate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from servable_serving.gates.run import Finding, Holdout, Tolerances
    from servable_serving.release.deployment import Labels
    from servable_serving.release.steps import Steps


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a candidate is to be pushed.

    Args:
        promote: Move `stable` to it, in place of `canary`.
        dry_run: Only ask the gates.
        skip: The gates to leave out, and why.
        holdout: Gives the pictures that the accuracy is measured with.
        tolerances: How much worse than what is served it may be.
        trial_server: A tensorflow_model_server for the trial; `servable serve` unless given.
        version: The version's number; the next unless given.
    """

    promote: bool = False
    dry_run: bool = False
    skip: Mapping[str, str] = field(default_factory=dict)
    holdout: Callable[[], Holdout | None] = lambda: None
    tolerances: Tolerances | None = None
    trial_server: Path | None = None
    version: int | None = None


def push(candidate: Path, labels: Labels, steps: Steps, plan: Plan) -> int | None:
    """Bring a candidate to where it is served.

    Args:
        candidate: A folder that `export` wrote; it stays where it is.
        labels: Those of the repository that it goes into.
        steps: Where the steps are told.
        plan: How.

    Returns:
        The version; None of a dry run.

    Raises:
        CandidateError: It is not whole, or not as it was exported.
        GateError: It does not pass a gate.
        FolderError: The repository cannot be written.
        ReleaseError: It failed to load, failed its smoke test, or could not be labelled.
    """
    repository, live = labels.repository, labels.live
    # What would fail at the end is better known before minutes of gates.
    labels.check()
    if live is not None and not plan.dry_run:
        live.check()
    elif not plan.dry_run and plan.promote and labels.now().get(STABLE) is not None:
        raise ReleaseError(
            "stable moves only to a version that is served, and no server is waited for",
            hint="push without --promote, and `servable promote` it when a server answers",
        )

    served = labels.served()
    asked = ask_gates(
        candidate, None if served is None else repository.folders()[served], steps, plan
    )
    if plan.dry_run:
        return None
    manifest = check_candidate(candidate)
    about = {
        "name": manifest["name"],
        "candidate": str(candidate.resolve()),
        **asked,
    }
    with repository.locked(waiting=lambda: steps.say("another push is under way; waiting for it")):
        # Of pushes that were killed; and what this one needs is loaded beside what is served.
        labels.drop()
        with steps.step("stage") as step:
            version = repository.bring(
                lambda incoming: copy(candidate, incoming), version=plan.version, about=about
            )
            step.said = f"version {version} is whole in {repository.path}"
        try:
            _bring_up(version, labels, steps, manifest)
        except BaseException as error:
            _reject(version, labels, steps, error)
            raise
        _label(version, labels, steps, promote=plan.promote)
        labels.drop()
    return version


def ask_gates(candidate: Path, served: Path | None, steps: Steps, plan: Plan) -> dict[str, Any]:
    """Have a candidate pass the gates; what they said, as the history keeps it.

    Args:
        candidate: A folder that `export` wrote.
        served: The version to hold it against, if there is one.
        steps: Where the gates are told.
        plan: Which gates, and how strict.

    Raises:
        CandidateError: It is not whole, or not as it was exported.
        GateError: It does not pass.
    """

    def tell(finding: Finding) -> None:
        steps.note(
            finding.gate, outcome=finding.outcome, said=finding.said, seconds=finding.seconds
        )

    findings = inspect(
        candidate,
        served=served,
        holdout=plan.holdout(),
        skip=plan.skip,
        tell=tell,
        tolerances=plan.tolerances,
        server=plan.trial_server,
    )
    return {
        "skipped": dict(plan.skip),
        "gates": [{"gate": f.gate, "outcome": f.outcome, "said": f.said} for f in findings],
    }


def _bring_up(version: int, labels: Labels, steps: Steps, manifest: Mapping[str, Any]) -> None:
    """Wait until a version is served, and test it there; what is served so far stays."""
    if STABLE not in labels.now() and (served := _served_before(version, labels)) is not None:
        labels.adopt(served)
    bring_up(version, labels, steps, manifest)


def _served_before(version: int, labels: Labels) -> int | None:
    """What is served without a label, so far."""
    there = {v for v in labels.repository.versions() if v < version}
    if labels.live is not None:
        there &= labels.live.available()
    return max(there, default=None)


def _label(version: int, labels: Labels, steps: Steps, *, promote: bool) -> None:
    """Give a version its label: `stable` where it is the first, or is to be promoted."""
    now = labels.now()
    label = STABLE if promote or STABLE not in now else CANARY
    with steps.step("label") as step:
        if labels.live is None and now.get(label) not in (None, version):
            # Servers refuse a file whole that moves a label in use to what is not there yet, and
            # would never load it.
            step.outcome = "skipped"
            step.said = f"{label} stays at version {now[label]}: no server was waited for"
            return
        try:
            step.said = labels.move(label, version, what="push")
        except ReleaseError as error:
            with suppress(ServableError):
                labels.withdraw(version)
            raise ReleaseError(
                error.message,
                hint=f"version {version} is in the repository, and is not served; "
                f"`servable promote {version}` tries again",
            ) from error
        if label == STABLE and not promote:
            step.said += ": it is the first"


def _reject(version: int, labels: Labels, steps: Steps, error: BaseException) -> None:
    """Take a version out that failed, or was given up."""
    reason = {
        "reason": error.message if isinstance(error, ServableError) else "the push was broken off",
        "code": error.code if isinstance(error, ServableError) else None,
        "step": steps.taken[-1].name if steps.taken else None,
    }
    with steps.step("reject") as step:
        # From the file first: a server that starts must not look for what is gone.
        try:
            labels.withdraw(version)
        finally:
            where = labels.repository.reject(version, reason)
        step.said = f"version {version} is out of sight in {where}"
