"""Promotion rules: whether a version did as well as the one in service."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from servable_serving.core.statistics import binomial_tail
from servable_serving.mirror.outputs import output_in_words

if TYPE_CHECKING:
    from collections.abc import Mapping

    from servable_serving.canary.mirror_meter import Compared
    from servable_serving.canary.traffic_meter import Tally

# A 95th percentile that is worse by less than this passes at any ratio.
_LEAST_SECONDS = 0.005
# A running trial is ended if its errors are less likely than this by chance.
_CHANCE = 0.001
_INCOMPARABLE = (
    "its answers cannot be judged: there is no output of both versions that could be compared"
)


@dataclass(frozen=True, kw_only=True)
class PromotionRules:
    """What share of the traffic a version gets, and what it must achieve to be promoted.

    Args:
        percent: Share of the requests that name no version, above 0 and at most 100.
        seconds: Duration of the trial.
        max_errors: Maximum increase of the error rate over that of `stable`, 0 to 1.
        max_latency_ratio: Maximum 95th percentile of the latency relative to that of `stable`.
        min_requests: Minimum requests of each version; with fewer it is not promoted.
        max_differ: Maximum share of the rows of mirrored requests to which it gives another label
            or class than `stable`, 0 to 1; of other outputs, how far they may be apart: see
            `mirror/outputs.py`. With 1, neither is a reason.
        max_psi: Maximum population stability index of the classes or the confidences of its
            answers, against those of `stable` to the same requests.
        ignore: Outputs that are not compared, such as an embedding of which each training has
            another.
        every: Seconds between two looks at the metrics.
    """

    percent: float = 10.0
    seconds: float = 600.0
    max_errors: float = 0.01
    max_latency_ratio: float = 1.5
    min_requests: int = 100
    max_differ: float = 0.2
    max_psi: float = 0.25
    ignore: tuple[str, ...] = ()
    every: float = 2.0


def too_many_errors(canary: Tally, stable: Tally, rules: PromotionRules, *, surely: bool) -> str:
    """Why a version has too many errors; empty if it has not.

    Args:
        canary: Its requests.
        stable: Those of the version in service.
        rules: The limits.
        surely: Whether to ignore errors that may be chance, while the trial is running.
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
        f"against {stable.error_ratio:.1%} of stable's {stable.requests}; the limit is "
        f"{rules.max_errors:.1%} more"
    )


def too_slow(canary: Tally, stable: Tally, rules: PromotionRules) -> str:
    """Why a version is too slow; empty if it is not, or if there are too few requests to decide."""
    enough = all(tally.statuses.get("OK", 0) >= rules.min_requests for tally in (canary, stable))
    mine, theirs = canary.percentile(0.95), stable.percentile(0.95)
    if not enough or mine is None or theirs is None:
        return ""
    if mine <= theirs * rules.max_latency_ratio or mine - theirs < _LEAST_SECONDS:
        return ""
    return (
        f"its 95th percentile latency was {mine * 1000:.0f} ms, against {theirs * 1000:.0f} ms of "
        f"stable; the limit is {rules.max_latency_ratio:g} times as long"
    )


def too_few(canary: Tally, stable: Tally, rules: PromotionRules) -> str:
    """Why there were too few requests for a decision; empty if there were enough."""
    for name, tally in (("it", canary), ("stable", stable)):
        if name == "stable" and rules.percent >= 100.0:
            continue
        if tally.requests < rules.min_requests:
            return (
                f"{name} got {tally.requests} requests, and a promotion requires at least "
                f"{rules.min_requests}"
            )
    return ""


def fails_mirrored(compared: Compared, rules: PromotionRules, *, surely: bool) -> str:
    """Why a version does not answer mirrored requests as well as `stable`; empty if it does.

    Args:
        compared: Its answers and those of `stable` to the same requests.
        rules: The limits.
        surely: Whether to ignore errors and differences that may be chance, while the trial is
            running.
    """
    version, against = compared.tally("version"), compared.tally("against")
    return too_many_errors(version, against, rules, surely=surely) or too_different(
        compared, rules, surely=surely
    )


def too_different(compared: Compared, rules: PromotionRules, *, surely: bool) -> str:
    """Why a version's answers differ too much from those of `stable`; empty if they do not.

    Args:
        compared: Its answers and those of `stable` to the same requests.
        rules: The limits.
        surely: Whether to ignore what may be chance, while the trial is running.
    """
    if compared.requests < rules.min_requests:
        return ""
    outputs = {
        name: found
        for name, found in compared.outputs.items()
        if name not in rules.ignore and found["rows"] >= rules.min_requests
    }
    return (
        _other_labels(compared, rules, surely=surely)
        or _apart(outputs, rules, surely=surely)
        or _shifted(compared, rules)
        or ("" if surely or compared.decided or outputs else _INCOMPARABLE)
    )


def _other_labels(compared: Compared, rules: PromotionRules, *, surely: bool) -> str:
    rows, differ = compared.decided, compared.differ
    if differ <= rules.max_differ * rows or (
        surely and binomial_tail(differ, rows, rules.max_differ) > _CHANCE
    ):
        return ""
    most = compared.figures["changes"]
    often = (
        f", most often {most[0]['version']} in place of {most[0]['against']} "
        f"({most[0]['rows']} rows)"
        if most
        else ""
    )
    return (
        f"it answers {differ / rows:.1%} of {rows} rows differently from stable{often}; the "
        f"limit is {rules.max_differ:.1%}"
    )


def _apart(outputs: Mapping[str, Mapping[str, Any]], rules: PromotionRules, *, surely: bool) -> str:
    for name, found in outputs.items():
        # While the trial is running, a few large differences may still be most of their sum.
        if found["apart"] > rules.max_differ and not (surely and found["apart"] < 1):
            return (
                f"it differs from stable in {output_in_words(name, found)}, by "
                f"{found['apart']:.1%} of its variance in {found['rows']} rows; the limit is "
                f"{rules.max_differ:.1%}"
            )
    return ""


def _shifted(compared: Compared, rules: PromotionRules) -> str:
    for shift in compared.figures["shifts"]:
        if shift["psi"] > rules.max_psi + shift["chance"]:
            return (
                f"the distribution of its {shift['of']} has moved away from that of stable: the "
                f"population stability index is {shift['psi']:.2f} of {shift['count']} rows; the "
                f"limit is {rules.max_psi:g}"
            )
    return ""
