"""Observing a trial: decisions over what a meter counted, by a clock that sleeping advances."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest

from servable_serving.canary.mirror_meter import Compared
from servable_serving.canary.plan import INTERRUPTED
from servable_serving.canary.rules import PromotionRules
from servable_serving.canary.shadow_trial import ShadowTrial, observe_mirror
from servable_serving.canary.traffic_meter import NoMetrics, Tally
from servable_serving.canary.trial import CanaryTrial, observe, settle
from servable_serving.mirror.errors import NoMirror

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CANARY_VERSION, STABLE_VERSION = 2, 1
RULES = PromotionRules(seconds=60.0, every=2.0, min_requests=100)


@dataclass
class Time:
    now: float = 500.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float, /) -> None:
        assert seconds >= 0
        self.now += seconds


def fast(ok: int, failed: int = 0) -> Tally:
    return Tally({"OK": ok, "INTERNAL": failed}, {0.1: ok, math.inf: ok})


def slow(ok: int) -> Tally:
    return Tally({"OK": ok}, {0.5: 0, 1.0: ok, math.inf: ok})


@dataclass
class FakeMeter:
    """The canary's tally at each look, the last one for all looks after it; None fails."""

    canary: Sequence[Tally | None]
    stable: Tally = field(default_factory=lambda: fast(1000))
    shares: list[float | NoMetrics | None] = field(default_factory=list)
    looks: int = 0

    def look(self) -> None:
        self.looks += 1
        if self._now() is None:
            raise NoMetrics("away")

    def tally(self, version: int) -> Tally:
        if version == STABLE_VERSION:
            return self.stable
        assert version == CANARY_VERSION
        found = self._now()
        assert found is not None
        return found

    def share(self, label: str) -> float | None:
        assert label == "canary"
        found = self.shares.pop(0) if len(self.shares) > 1 else self.shares[0]
        if isinstance(found, NoMetrics):
            raise found
        return found

    def _now(self) -> Tally | None:
        return self.canary[min(self.looks, len(self.canary)) - 1]


def trial(rules: PromotionRules = RULES) -> CanaryTrial:
    return CanaryTrial(
        model="m", version=CANARY_VERSION, against=STABLE_VERSION, rules=rules,
        began="2026-01-02T03:04:05+00:00", who="me@here",
    )  # fmt: skip


def observed(
    meter: FakeMeter,
    rules: PromotionRules = RULES,
    tell: Callable[[str], None] = lambda _: None,
) -> tuple[str, float, CanaryTrial]:
    """Why the version must not be promoted, the seconds that it took to find out, the trial."""
    time, one = Time(), trial(rules)
    return observe(meter, one, tell, time), time.now - 500.0, one


@dataclass
class FakeMirror:
    """How many of 1,000 mirrored rows differ at each look, the last for all others; None fails."""

    differ: Sequence[int | None]
    looks: int = 0

    def look(self) -> None:
        self.looks += 1
        if self._now() is None:
            raise NoMirror("away")

    @property
    def compared(self) -> Compared:
        side = {"statuses": {"OK": 500}, "seconds": {"p50": 0.01, "p95": 0.01, "p99": 0.01}}
        return Compared({
            "requests": 500, "rows": 1000, "differ": self._now(), "decided": 1000,
            "changes": [], "shifts": [], "outputs": {}, "version": side, "against": side,
        })  # fmt: skip

    def _now(self) -> int | None:
        return self.differ[min(self.looks, len(self.differ)) - 1]


def mirrored(differ: Sequence[int | None], meter: FakeMeter) -> tuple[str, float]:
    time = Time()
    return observe(meter, trial(), lambda _: None, time, mirror=FakeMirror(differ)), time.now - 500


def test_answers_that_differ_end_the_trial() -> None:
    reason, seconds = mirrored([10, 400], FakeMeter([fast(200)]))
    assert "40.0% of 1000 rows" in reason
    assert seconds == 4.0


def test_mirrored_requests_are_enough_where_clients_use_grpc() -> None:
    assert mirrored([10], FakeMeter([Tally()])) == ("", 60.0)
    assert "requires at least 100" in observed(FakeMeter([Tally()]))[0]


def test_a_mirror_that_is_away_for_a_while_is_waited_for() -> None:
    assert mirrored([10, None, None, 10], FakeMeter([fast(200)])) == ("", 60.0)
    with pytest.raises(NoMirror):
        mirrored([None], FakeMeter([fast(200)]))


def shadowed(differ: Sequence[int | None], rules: PromotionRules = RULES) -> tuple[str, float]:
    time = Time()
    one = ShadowTrial(
        model="m", version=CANARY_VERSION, against=STABLE_VERSION, rules=rules,
        began="2026-01-02T03:04:05+00:00", who="me@here",
    )  # fmt: skip
    reason = observe_mirror(FakeMirror(differ), one, lambda _: None, time)
    assert one.answers
    return reason, time.now - 500


def test_a_shadow_is_observed_to_its_end_or_failure() -> None:
    assert shadowed([10]) == ("", 60.0)
    reason, seconds = shadowed([10, 10, 500])
    assert ("50.0%" in reason, seconds) == (True, 6.0)
    assert "requires at least 501" in shadowed([10], replace(RULES, min_requests=501))[0]
    with pytest.raises(NoMirror):
        shadowed([10, None])


def test_a_good_version_passes_when_the_time_is_up() -> None:
    reason, seconds, _ = observed(FakeMeter([fast(200)]))
    assert (reason, seconds) == ("", 60.0)


def test_the_metrics_are_read_at_the_interval() -> None:
    meter = FakeMeter([fast(200)])
    observed(meter)
    assert meter.looks == 30


def test_the_last_interval_ends_with_the_trial() -> None:
    _, seconds, _ = observed(FakeMeter([fast(200)]), PromotionRules(seconds=5.0, every=2.0))
    assert seconds == 5.0


def test_errors_beyond_chance_end_the_trial_at_once() -> None:
    reason, seconds, _ = observed(FakeMeter([fast(50), fast(50, 50)]))
    assert reason
    assert seconds == 4.0


def test_errors_that_may_be_chance_are_observed_on() -> None:
    reason, seconds, _ = observed(FakeMeter([fast(9, 1), fast(999, 1)]))
    assert (reason, seconds) == ("", 60.0)


def test_errors_that_may_be_chance_count_at_the_end() -> None:
    reason, seconds, _ = observed(FakeMeter([fast(98, 2)]))
    assert reason
    assert seconds == 60.0


def test_a_latency_beyond_the_limit_ends_the_trial_after_five_looks() -> None:
    reason, seconds, _ = observed(FakeMeter([fast(200), slow(200)]))
    assert reason
    assert seconds == 12.0


def test_a_latency_that_recovers_does_not_end_the_trial() -> None:
    looks = [slow(200)] * 4 + [fast(200)] + [slow(200)] * 4 + [fast(900)]
    assert observed(FakeMeter(looks))[:2] == ("", 60.0)


def test_a_latency_beyond_the_limit_at_the_end_fails() -> None:
    looks = [*[fast(200)] * 29, slow(200)]
    reason, seconds, _ = observed(FakeMeter(looks))
    assert reason
    assert seconds == 60.0


@pytest.mark.parametrize(("canary", "stable"), [(99, 1000), (1000, 99), (0, 0)])
def test_too_few_requests_do_not_promote(canary: int, stable: int) -> None:
    reason, seconds, _ = observed(FakeMeter([fast(canary)], fast(stable)))
    assert reason
    assert seconds == 60.0


def test_metrics_that_come_back_in_time_are_enough() -> None:
    assert observed(FakeMeter([*[None] * 14, fast(200)]))[0] == ""


def test_metrics_that_are_missing_for_long_end_the_trial() -> None:
    meter = FakeMeter([fast(200), None])
    with pytest.raises(NoMetrics):
        observed(meter)
    assert meter.looks == 1 + 15


def test_gaps_in_the_metrics_do_not_add_up() -> None:
    looks = [*[None] * 10, fast(100), *[None] * 10, fast(200)]
    assert observed(FakeMeter(looks))[0] == ""


def test_metrics_that_are_missing_at_the_end_are_an_error() -> None:
    with pytest.raises(NoMetrics):
        observed(FakeMeter([*[fast(200)] * 29, None]))


def test_metrics_that_appear_after_the_end_decide() -> None:
    meter = FakeMeter([*[fast(200)] * 28, None, fast(0)])
    assert observed(meter)[0]


def test_the_figures_are_kept_in_the_trial() -> None:
    _, _, one = observed(FakeMeter([fast(250)], fast(750)))
    assert (one.canary["requests"], one.stable["requests"], one.share) == (250, 750, 0.25)


def test_the_figures_are_told_at_each_look() -> None:
    lines: list[str] = []
    observed(FakeMeter([fast(200)]), PromotionRules(seconds=4.0, every=2.0), lines.append)
    assert [line.partition(" ")[0] for line in lines] == ["0:02", "0:00"]


def test_nothing_is_told_of_a_look_without_metrics() -> None:
    lines: list[str] = []
    rules = PromotionRules(seconds=6.0, every=2.0)
    observed(FakeMeter([fast(200), None, fast(200)]), rules, lines.append)
    assert len(lines) == 2


def settled(*shares: float | NoMetrics | None) -> float:
    time = Time()
    settle(FakeMeter([], shares=list(shares)), time)
    return time.now - 500.0


def test_requests_under_way_are_waited_for_once_the_share_is_0() -> None:
    assert settled(0.0) == pytest.approx(2.0)


def test_the_share_in_force_is_waited_for() -> None:
    assert settled(0.3, 0.3, 0.0) == pytest.approx(2.4)


def test_missing_metrics_do_not_end_the_wait() -> None:
    assert settled(NoMetrics("away"), 0.3, 0.0) == pytest.approx(2.4)


@pytest.mark.parametrize("share", [0.3, None, NoMetrics("away")])
def test_a_gateway_that_never_applies_it_is_given_up(share: float | NoMetrics | None) -> None:
    assert 60.0 < settled(share) < 63.0


def test_a_trial_is_interrupted_until_it_has_an_outcome() -> None:
    assert trial().outcome == INTERRUPTED


def test_a_trial_without_requests_has_no_share() -> None:
    assert trial().share is None


def test_a_trial_as_json_has_its_rules() -> None:
    found = trial().as_json()
    assert (found["rules"]["percent"], found["version"], found["share"]) == (10.0, 2, None)
