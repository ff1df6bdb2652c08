"""A canary trial: a version on a share of the traffic, promoted or withdrawn at its end."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from servable_client import ServableError
from servable_serving.canary.mirror_meter import Compared, MirrorMeter
from servable_serving.canary.plan import GRACE_SECONDS, Trial, left_in_words, looks
from servable_serving.canary.rules import fails_mirrored, too_few, too_many_errors, too_slow
from servable_serving.canary.traffic_meter import NoMetrics, TrafficMeter
from servable_serving.core.names import CANARY, STABLE
from servable_serving.core.signals import uninterrupted
from servable_serving.mirror.errors import NoMirror
from servable_serving.repository import history
from servable_serving.repository.shadow import Shadow

if TYPE_CHECKING:
    from collections.abc import Callable

    from servable_serving.canary.plan import Mirror
    from servable_serving.canary.site import Site
    from servable_serving.canary.traffic_meter import Tally
    from servable_serving.core.clock import Clock
    from servable_serving.release.steps import Steps

# The gateway reads the shares once a second, more slowly on a busy machine, and reports which are
# in force; what it has passed on by then is still answered.
_APPLIED_SECONDS = 60.0
_SETTLE_SECONDS = 2.0
_SETTLE_LOOK_SECONDS = 0.2
# How many polls in a row the latency must exceed its limit to end the trial early.
_SLOW_LOOKS = 5

# Outcomes; reports and the history keep these words.
PROMOTED, ROLLED_BACK = "promoted", "rolled back"


class CanaryFailed(ServableError):
    """A version did not pass its trial and was withdrawn."""


class Meter(Protocol):
    """Counts the requests of each version."""

    def look(self) -> None:
        """Read the counters again.

        Raises:
            NoMetrics: They cannot be read.
        """
        ...

    def tally(self, version: int) -> Tally:
        """The requests of a version since the trial began."""
        ...

    def share(self, label: str) -> float | None:
        """The share of the traffic that a label gets now, 0 to 1; None if it is not reported.

        Raises:
            NoMetrics: It cannot be read.
        """
        ...


@dataclass(kw_only=True)
class CanaryTrial(Trial):
    """A trial and its result.

    Attributes:
        outcome: "promoted", "rolled back" or "interrupted".
        canary: Figures of the version on trial.
        stable: Figures of the version in service.
    """

    canary: dict[str, Any] = field(default_factory=dict)
    stable: dict[str, Any] = field(default_factory=dict)

    @property
    def share(self) -> float | None:
        """The version's share of the requests that either got, 0 to 1; None without any."""
        canary, stable = (side.get("requests", 0) for side in (self.canary, self.stable))
        return canary / (canary + stable) if canary + stable else None

    def as_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {**super().as_json(), "share": self.share}


def run_trial(
    trial: CanaryTrial,
    site: Site,
    steps: Steps,
    *,
    metrics: str,
    mirror: str | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> None:
    """Give a version a share of the traffic, observe it, then promote or withdraw it.

    Also after an error, it gets no traffic without a label afterwards unless it was promoted.

    Args:
        trial: The trial; its result is filled in.
        site: The model's versions, servers and gateway.
        steps: Where the steps are reported.
        metrics: URL of the metrics of `servable gateway-metrics`.
        mirror: URL of its mirror, to compare the answers; if it is not there, they are not.
        tell: Called with the figures at each poll.

    Raises:
        NoMetrics: The metrics cannot be read.
        ReleaseError: The version fails to load, or passed and could not be promoted.
    """
    version, rules = trial.version, trial.rules
    meter = TrafficMeter(metrics, model=trial.model)
    with steps.step("wait") as step:
        step.said = site.load(version)
    with steps.step("label") as step:
        step.said = site.set_canary(version)
    began = time.monotonic()
    try:
        with steps.step("share") as step:
            end = time.time() + rules.seconds + GRACE_SECONDS
            shadow = Shadow(
                version=version,
                name=trial.model,
                against=trial.against,
                percent=rules.percent,
                until=int(end),
            )
            compared = _mirrored(mirror, trial.model, shadow, steps)
            if compared is not None:
                site.mirror(trial.model, shadow)
            site.split({CANARY: rules.percent, STABLE: 100.0 - rules.percent}, until=end)
            step.said = f"{rules.percent:g} % of the requests that name no version go to {version}"
        with steps.step("watch") as step:
            failure = observe(meter, trial, tell, mirror=compared)
            trial.reason = failure or f"version {version} is as good as version {trial.against}"
            step.said = trial.reason
        if failure:
            trial.outcome = ROLLED_BACK
        else:
            site.promote(version, steps)
            trial.outcome = PROMOTED
    except BaseException as error:
        trial.interrupted(error)
        raise
    finally:
        with uninterrupted():
            # First, so that the traffic is restored even if a later step fails. The label may be
            # gone by then, so it is not named.
            site.split({STABLE: 100.0})
            site.mirror(trial.model, None)
            trial.seconds = round(time.monotonic() - began, 1)
            if trial.outcome != PROMOTED:
                steps.say(
                    f"the share of version {version} is back to 0: requests that name no version "
                    f"go to version {site.labels().get(STABLE)}"
                )
            site.note(
                history.event(
                    "canary",
                    version=version,
                    outcome=trial.outcome,
                    reason=trial.reason,
                    share=trial.share,
                )
            )
    if trial.outcome == ROLLED_BACK:
        with steps.step("withdraw") as step:
            settle(meter)
            site.unload(version)
            site.split({})
            step.said = f"version {version} has no label and is unloaded"


def _mirrored(address: str | None, model: str, shadow: Shadow, steps: Steps) -> MirrorMeter | None:
    """What reads the mirrored requests; None if they are not compared."""
    if address is None:
        return None
    try:
        return MirrorMeter(address, model=model, shadow=shadow)
    except NoMirror as error:
        steps.say(f"the answers are not compared, and gRPC is not counted: {error.message}")
        return None


def observe(
    meter: Meter,
    trial: CanaryTrial,
    tell: Callable[[str], None],
    clock: Clock = time,
    *,
    mirror: Mirror | None = None,
) -> str:
    """Observe a trial until its time is up or the version has failed.

    Args:
        meter: Counts the requests.
        trial: The trial; its figures are filled in.
        tell: Called with the figures at each poll.
        clock: The time.
        mirror: Reads how both versions answer mirrored requests; None where they are not compared.

    Returns:
        Why the version must not be promoted; empty if it passed.

    Raises:
        NoMetrics: The metrics were missing for several looks, or at the end.
        NoMirror: As `NoMetrics`, of the mirrored requests.
    """
    rules, slow = trial.rules, 0

    def read() -> None:
        meter.look()
        if mirror is not None:
            mirror.look()

    for left, over in looks(rules, read, clock):
        canary, stable = meter.tally(trial.version), meter.tally(trial.against)
        compared = Compared() if mirror is None else mirror.compared
        trial.canary, trial.stable = canary.as_json(), stable.as_json()
        trial.answers = dict(compared.figures)
        tell(_line(left, canary, stable, compared))
        if reason := too_many_errors(canary, stable, rules, surely=not over) or fails_mirrored(
            compared, rules, surely=not over
        ):
            return reason
        late = too_slow(canary, stable, rules) or too_slow(
            compared.tally("version"), compared.tally("against"), rules
        )
        slow = slow + 1 if late else 0
        if late and (over or slow >= _SLOW_LOOKS):
            return late
    # Clients of gRPC name a label in the message, so the share of REST may be none.
    enough = compared.requests >= rules.min_requests
    return "" if enough else too_few(canary, stable, rules)


def settle(meter: Meter, clock: Clock = time) -> None:
    """Wait until the gateway no longer sends requests to the canary."""
    end = clock.monotonic() + _APPLIED_SECONDS
    while clock.monotonic() < end:
        try:
            if meter.share(CANARY) == 0:
                break
        except NoMetrics:
            pass
        clock.sleep(_SETTLE_LOOK_SECONDS)
    clock.sleep(_SETTLE_SECONDS)


def _line(left: float, canary: Tally, stable: Tally, compared: Compared) -> str:
    def side(name: str, tally: Tally) -> str:
        tail = tally.percentile(0.95)
        latency = "" if tail is None else f", p95 {tail * 1000:.0f} ms"
        return f"{name} {tally.requests} requests, {tally.error_ratio:.1%} errors{latency}"

    same = f"; {compared}" if compared.requests else ""
    return f"{left_in_words(left)}; {side('canary', canary)}; {side('stable', stable)}{same}"
