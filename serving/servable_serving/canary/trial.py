"""A trial of a version on a share of the traffic, which ends with it in service or out of it."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from servable_client import ServableError
from servable_serving.canary.watch import NoMetrics, Watch
from servable_serving.core.names import CANARY, STABLE
from servable_serving.core.statistics import binomial_tail
from servable_serving.release.fleet import ReleaseError
from servable_serving.release.promote import promote
from servable_serving.repository import history
from servable_serving.repository.traffic import write_traffic

if TYPE_CHECKING:
    from collections.abc import Callable

    from servable_serving.canary.watch import Tally
    from servable_serving.release.deployment import Labels
    from servable_serving.release.steps import Steps

# The gateway reads the shares once a second, more slowly on a busy machine, and says which are in
# force; what it passed on until then is still answered.
_TAKEN_SECONDS = 60.0
_SETTLE_SECONDS = 2.0
# Past its planned end, a trial whose process was killed is ended by the gateway.
_GRACE_SECONDS = 120.0
# A percentile that is worse by less than this is no reason, whatever its ratio.
_LEAST_SECONDS = 0.005
# How many looks in a row a latency must be too long before the end.
_LOOKS = 5
_TAIL = "p95"
# Before its end a trial is ended by errors that chance brings about less often than this.
_CHANCE = 0.001
# The companion may be started anew on the way.
_BLIND_LOOKS = 15


PROMOTED, ROLLED_BACK, BROKEN_OFF = "promoted", "rolled back", "broken off"


class CanaryFailed(ServableError):
    """A version did not stand its trial, and is out of service again."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What is tried, and when it is good enough.

    Args:
        percent: The share of unpinned requests, more than 0, at most 100.
        seconds: For how long.
        max_errors: How much larger its share of errors may be than that of `stable`, 0 to 1.
        max_latency_ratio: How many times as long its 95th percentile may be.
        min_requests: Fewer than this prove nothing: it is not promoted.
        every: Seconds between two looks.
    """

    percent: float = 10.0
    seconds: float = 600.0
    max_errors: float = 0.01
    max_latency_ratio: float = 1.5
    min_requests: int = 100
    every: float = 2.0


@dataclass(kw_only=True)
class Trial:
    """How it went.

    Attributes:
        outcome: "promoted", "rolled back" or "broken off".
        reason: Why, a sentence.
        seconds: How long it ran.
        canary: The version's figures.
        stable: Those of the version in service.
    """

    model: str
    version: int
    against: int
    rules: Rules
    began: str
    who: str
    outcome: str = BROKEN_OFF
    reason: str = ""
    seconds: float = 0.0
    canary: dict[str, Any] = field(default_factory=dict)
    stable: dict[str, Any] = field(default_factory=dict)

    @property
    def share(self) -> float | None:
        """The version's part of the requests that either got, 0 to 1; None without any."""
        canary, stable = (side.get("requests", 0) for side in (self.canary, self.stable))
        return canary / (canary + stable) if canary + stable else None

    def as_json(self) -> dict[str, Any]:
        """All of it, for machines."""
        return {**asdict(self), "share": self.share}


def plan(version: int, labels: Labels, rules: Rules) -> Trial:
    """A trial to come; nothing has changed yet.

    Raises:
        ReleaseError: There is nothing to compare the version with, or it is not there.
    """
    against = labels.now().get(STABLE)
    if against is None or against == version:
        raise ReleaseError(
            f"no version of {labels.model} is stable, so there is nothing to compare with"
            if against is None
            else f"version {version} of {labels.model} is stable already",
            hint="`servable versions` shows the versions and their labels",
        )
    if version not in labels.repository.versions():
        raise ReleaseError(
            f"there is no version {version} in {labels.repository.path}",
            hint="`servable versions` shows what there is; `servable push` brings one in",
        )
    return Trial(
        model=labels.model,
        version=version,
        against=against,
        rules=rules,
        began=datetime.now(UTC).isoformat(timespec="seconds"),
        who=history.who(),
    )


def run(
    trial: Trial,
    labels: Labels,
    steps: Steps,
    *,
    metrics: str,
    tell: Callable[[str], None] = lambda _: None,
) -> None:
    """Give a version a share of the traffic, watch it, then promote it or take it out.

    Whatever happens, no traffic without a label goes to it in the end unless it was promoted.

    Args:
        trial: What is tried; it is filled in.
        labels: The model's labels.
        steps: Where the steps are told.
        metrics: The page of the gateway's companion.
        tell: Told of the figures at each look.

    Raises:
        NoMetrics: The companion does not answer.
        ReleaseError: The version fails to load, or did well and could not be promoted.
    """
    version, rules = trial.version, trial.rules
    watch = Watch(metrics, model=trial.model)
    with steps.step("wait") as step:
        step.said = labels.bring(version)
    with steps.step("label") as step:
        step.said = labels.move(CANARY, version, what="canary")
    root = labels.repository.path.parent
    began = time.monotonic()
    try:
        with steps.step("share") as step:
            end = time.time() + rules.seconds + _GRACE_SECONDS
            write_traffic(
                root,
                {trial.model: {CANARY: rules.percent, STABLE: 100.0 - rules.percent}},
                until={trial.model: end},
            )
            step.said = f"{rules.percent:g} % of the requests that name no version go to {version}"
        with steps.step("watch") as step:
            bad = _watch(watch, trial, tell)
            trial.reason = bad or f"version {version} is as good as version {trial.against}"
            step.said = trial.reason
        if bad:
            trial.outcome = ROLLED_BACK
        else:
            promote(version, labels, steps)
            trial.outcome = PROMOTED
    except BaseException as error:
        trial.reason = f"broken off: {_in_words(error)}"
        raise
    finally:
        # First of all: whatever else fails now, the traffic is where it was. The label may be
        # gone by then, so it is not named.
        write_traffic(root, {trial.model: {STABLE: 100.0}})
        trial.seconds = round(time.monotonic() - began, 1)
        if trial.outcome != PROMOTED:
            steps.say(
                f"the share of version {version} is back to 0: requests that name no version go "
                f"to version {labels.now().get(STABLE)}"
            )
        labels.repository.note(
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
            _settle(watch)
            labels.withdraw(version)
            write_traffic(root, {})
            step.said = f"version {version} has no label and is loaded no more"


def _settle(watch: Watch) -> None:
    """Wait until the gateway sends a version nothing more."""
    end = time.monotonic() + _TAKEN_SECONDS
    while time.monotonic() < end:
        try:
            if watch.share(CANARY) == 0:
                break
        except NoMetrics:
            pass
        time.sleep(0.2)
    time.sleep(_SETTLE_SECONDS)


def _in_words(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "Ctrl-C"
    return str(error) or type(error).__name__


def _watch(watch: Watch, trial: Trial, tell: Callable[[str], None]) -> str:
    """Watch until the time is up or the version has failed; why it has, or nothing."""
    rules = trial.rules
    end = time.monotonic() + rules.seconds
    slow = blind = 0
    while True:
        left = end - time.monotonic()
        time.sleep(max(min(rules.every, left), 0.0))
        try:
            watch.look()
            blind = 0
        except NoMetrics:
            blind += 1
            if blind >= _BLIND_LOOKS or left <= 0:
                raise
            continue
        canary, stable = watch.tally(trial.version), watch.tally(trial.against)
        trial.canary, trial.stable = canary.as_json(), stable.as_json()
        over = end - time.monotonic() <= 0
        tell(_line(max(end - time.monotonic(), 0.0), canary, stable))
        if reason := too_many_errors(canary, stable, rules, surely=not over):
            return reason
        late = too_slow(canary, stable, rules)
        slow = slow + 1 if late else 0
        if late and (over or slow >= _LOOKS):
            return late
        if over:
            return too_few(canary, stable, rules)


def too_many_errors(canary: Tally, stable: Tally, rules: Rules, *, surely: bool) -> str:
    """Why a version has too many errors, or nothing.

    Args:
        canary: The version.
        stable: The one in service.
        rules: How many are too many.
        surely: Not those that may be chance: the trial is still running.
    """
    allowed = min(stable.error_ratio + rules.max_errors, 1.0)
    if canary.error_ratio <= allowed:
        return ""
    if surely and binomial_tail(canary.errors, canary.requests, allowed) > _CHANCE:
        return ""
    most = max(
        (status for status in canary.statuses if status != "OK"), key=canary.statuses.__getitem__
    )
    return (
        f"{canary.error_ratio:.1%} of its {canary.requests} requests failed, mostly with {most}, "
        f"against {stable.error_ratio:.1%} of stable's {stable.requests}; "
        f"{rules.max_errors:.1%} more are allowed"
    )


def too_slow(canary: Tally, stable: Tally, rules: Rules) -> str:
    """Why a version is too slow, or nothing; without enough requests of both, nothing."""
    enough = all(tally.statuses.get("OK", 0) >= rules.min_requests for tally in (canary, stable))
    mine, theirs = canary.percentile(0.95), stable.percentile(0.95)
    if not enough or mine is None or theirs is None:
        return ""
    if mine <= theirs * rules.max_latency_ratio or mine - theirs < _LEAST_SECONDS:
        return ""
    return (
        f"95 % of its requests took up to {mine * 1000:.0f} ms, against {theirs * 1000:.0f} ms of "
        f"stable's; {rules.max_latency_ratio:g} times as long is allowed"
    )


def too_few(canary: Tally, stable: Tally, rules: Rules) -> str:
    """Why there were too few requests to judge by, or nothing."""
    for name, tally in (("it", canary), ("stable", stable)):
        if name == "stable" and rules.percent >= 100.0:
            continue
        if tally.requests < rules.min_requests:
            return (
                f"{name} got {tally.requests} requests, and fewer than {rules.min_requests} prove "
                "nothing"
            )
    return ""


def _line(left: float, canary: Tally, stable: Tally) -> str:
    def side(name: str, tally: Tally) -> str:
        tail = tally.percentile(0.95)
        time_said = "" if tail is None else f", {_TAIL} {tail * 1000:.0f} ms"
        return f"{name} {tally.requests} requests, {tally.error_ratio:.1%} errors{time_said}"

    return (
        f"{int(left) // 60}:{int(left) % 60:02d} left; {side('canary', canary)}; "
        f"{side('stable', stable)}"
    )
