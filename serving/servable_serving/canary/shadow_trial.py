"""A shadow trial: a version gets the requests of the version in service, and answers nobody."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from servable_client import ServableError
from servable_serving.canary.mirror_meter import MirrorMeter
from servable_serving.canary.plan import GRACE_SECONDS, Trial, left_in_words, looks
from servable_serving.canary.rules import fails_mirrored, too_slow
from servable_serving.core.signals import uninterrupted
from servable_serving.repository import history
from servable_serving.repository.shadow import Shadow

if TYPE_CHECKING:
    from collections.abc import Callable

    from servable_serving.canary.plan import Mirror
    from servable_serving.canary.site import Site
    from servable_serving.core.clock import Clock
    from servable_serving.release.steps import Steps

PASSED, FAILED = "passed", "failed"


class ShadowFailed(ServableError):
    """A version did not answer as `stable` does."""


@dataclass(kw_only=True)
class ShadowTrial(Trial):
    """A trial and its result; the outcome is "passed", "failed" or "interrupted"."""


def run_shadow(
    trial: ShadowTrial,
    aside: Site,
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
        aside: The site, where the version is loaded as `shadow_name` of the model.
        steps: Where the steps are reported.
        mirror: URL of the mirror of `servable gateway-metrics`.
        tell: Called with the figures at each poll.

    Raises:
        NoMirror: The mirrored requests cannot be read.
        ReleaseError: The version fails to load.
    """
    version, rules = trial.version, trial.rules
    shadow = Shadow(
        version=version,
        name=aside.model,
        against=trial.against,
        percent=rules.percent,
        until=int(time.time() + aside.timeout + rules.seconds + GRACE_SECONDS),
    )
    meter = MirrorMeter(mirror, model=trial.model, shadow=shadow)
    began = time.monotonic()
    try:
        with steps.step("wait") as step:
            step.said = aside.load(version)
        with steps.step("mirror") as step:
            aside.mirror(trial.model, shadow)
            step.said = f"{rules.percent:g} % of the requests to version {trial.against}"
        with steps.step("watch") as step:
            failure = observe_mirror(meter, trial, tell)
            trial.outcome = FAILED if failure else PASSED
            trial.reason = failure or (
                f"version {version} answers as version {trial.against} does: {meter.compared}"
            )
            step.said = trial.reason
    except BaseException as error:
        trial.interrupted(error)
        raise
    finally:
        with uninterrupted():
            aside.mirror(trial.model, None)
            trial.seconds = round(time.monotonic() - began, 1)
            aside.withdraw()
            aside.note(
                history.event("shadow", version=version, outcome=trial.outcome, reason=trial.reason)
            )
    with steps.step("withdraw") as step:
        step.said = aside.wait_until_withdrawn()


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
    for left, over in looks(rules, meter.look, clock):
        compared = meter.compared
        trial.answers = dict(compared.figures)
        tell(f"{left_in_words(left)}; {compared}")
        if reason := fails_mirrored(compared, rules, surely=not over):
            return reason
    if compared.requests < rules.min_requests:
        return (
            f"the gateway mirrored {compared.requests} requests, and a verdict requires at least "
            f"{rules.min_requests}"
        )
    return too_slow(compared.tally("version"), compared.tally("against"), rules)
