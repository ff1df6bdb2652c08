"""A shadow trial: a version gets the requests of the version in service, and answers nobody."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from servable_client import ServableError
from servable_serving.canary.mirror_meter import MirrorMeter
from servable_serving.canary.rules import fails_mirrored, too_slow
from servable_serving.canary.trial import in_words, version_to_beat
from servable_serving.core.signals import uninterrupted
from servable_serving.mirror.errors import NoMirror
from servable_serving.repository import history
from servable_serving.repository.shadow import Shadow, write_shadow

if TYPE_CHECKING:
    from collections.abc import Callable

    from servable_serving.canary.rules import PromotionRules
    from servable_serving.canary.trial import Mirror
    from servable_serving.core.clock import Clock
    from servable_serving.release.deployment import Deployment
    from servable_serving.release.steps import Steps

# The gateway ends a trial whose process was killed, this long after its planned end.
_GRACE_SECONDS = 120.0
_BLIND_LOOKS = 15

PASSED, FAILED, INTERRUPTED = "passed", "failed", "interrupted"


class ShadowFailed(ServableError):
    """A version did not answer as `stable` does."""


@dataclass(kw_only=True)
class ShadowTrial:
    """A trial and its result.

    Attributes:
        outcome: "passed", "failed" or "interrupted".
        reason: Why, a sentence.
        seconds: How long it ran.
        answers: How both versions answered the same requests.
    """

    model: str
    version: int
    against: int
    rules: PromotionRules
    began: str
    who: str
    outcome: str = INTERRUPTED
    reason: str = ""
    seconds: float = 0.0
    answers: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def plan_shadow(version: int, deployment: Deployment, rules: PromotionRules) -> ShadowTrial:
    """Prepare a trial; nothing changes yet.

    Raises:
        ReleaseError: The version does not exist, or there is nothing to compare it with.
    """
    return ShadowTrial(
        model=deployment.model,
        version=version,
        against=version_to_beat(version, deployment),
        rules=rules,
        began=datetime.now(UTC).isoformat(timespec="seconds"),
        who=history.who(),
    )


def run_shadow(
    trial: ShadowTrial,
    aside: Deployment,
    steps: Steps,
    *,
    mirror: str,
    tell: Callable[[str], None] = lambda _: None,
) -> None:
    """Mirror requests to a version, and compare its answers with those of the one in service.

    No client gets its answers, and no label moves: servers load it as a model of its own, for the
    time of the trial.

    Args:
        trial: The trial; its result is filled in.
        aside: The deployment of the version as `shadow_name` of the model.
        steps: Where the steps are reported.
        mirror: URL of the mirror of `servable gateway-metrics`.
        tell: Called with the figures at each poll.

    Raises:
        NoMirror: The mirrored requests cannot be read.
        ReleaseError: The version fails to load.
    """
    version, rules = trial.version, trial.rules
    root = aside.repository.path.parent
    shadow = Shadow(
        version=version,
        name=aside.model,
        against=trial.against,
        percent=rules.percent,
        until=int(time.time() + aside.timeout + rules.seconds + _GRACE_SECONDS),
    )
    meter = MirrorMeter(mirror, model=trial.model, shadow=shadow)
    began = time.monotonic()
    try:
        with steps.step("wait") as step:
            step.said = aside.load(version)
        with steps.step("mirror") as step:
            write_shadow(root, trial.model, shadow)
            step.said = f"{rules.percent:g} % of the requests to version {trial.against}"
        with steps.step("watch") as step:
            failure = observe_mirror(meter, trial, tell)
            trial.outcome = FAILED if failure else PASSED
            trial.reason = failure or (
                f"version {version} answers as version {trial.against} does: "
                f"{in_words(meter.compared)}"
            )
            step.said = trial.reason
    except BaseException as error:
        trial.reason = f"interrupted: {str(error) or type(error).__name__}"
        raise
    finally:
        with uninterrupted():
            write_shadow(root, trial.model, None)
            trial.seconds = round(time.monotonic() - began, 1)
            aside.withdraw()
            aside.repository.note(
                history.event("shadow", version=version, outcome=trial.outcome, reason=trial.reason)
            )


def observe_mirror(
    meter: Mirror, trial: ShadowTrial, tell: Callable[[str], None], clock: Clock = time
) -> str:
    """Observe a trial until its time is up or the version has failed.

    Args:
        meter: Reads the comparison.
        trial: The trial; its figures are filled in.
        tell: Called with the figures at each poll.
        clock: The time.

    Returns:
        Why the version is not as good as the one in service; empty if it is.

    Raises:
        NoMirror: The comparison was missing for several looks, or at the end.
    """
    rules = trial.rules
    end = clock.monotonic() + rules.seconds
    blind = 0
    while True:
        left = end - clock.monotonic()
        clock.sleep(max(min(rules.every, left), 0.0))
        try:
            meter.look()
            blind = 0
        except NoMirror:
            blind += 1
            if blind >= _BLIND_LOOKS or left <= 0:
                raise
            continue
        compared = meter.compared
        trial.answers = dict(compared.figures)
        over = end - clock.monotonic() <= 0
        tell(in_words(compared))
        if reason := fails_mirrored(compared, rules, surely=not over):
            return reason
        if over:
            if compared.requests < rules.min_requests:
                return (
                    f"the gateway mirrored {compared.requests} requests, and a verdict requires at "
                    f"least {rules.min_requests}"
                )
            return too_slow(compared.tally("version"), compared.tally("against"), rules)
