"""The report of a canary trial: its figures as JSON, and a page in Markdown."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from servable_serving.canary.shadow_trial import ShadowTrial
from servable_serving.core.errors import FolderError
from servable_serving.core.files import atomic_write
from servable_serving.mirror.outputs import output_in_words

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from servable_serving.canary.rules import PromotionRules
    from servable_serving.canary.trial import CanaryTrial

_MOST_CLASSES = 30


def write_report(trial: CanaryTrial | ShadowTrial, folder: Path) -> None:
    """Write `canary-VERSION-TIME.json` and `.md` into a folder, `shadow-...` of a shadow trial.

    The path of the latter is the trial's `report`.

    Raises:
        FolderError: It cannot be written.
    """
    stamp = trial.began.replace(":", "").replace("-", "").partition("+")[0]
    if isinstance(trial, ShadowTrial):
        kind, text = "shadow", page_of_shadow(trial)
    else:
        kind, text = "canary", page_of(trial)
    page = folder / f"{kind}-{trial.version}-{stamp}.md"
    trial.report = str(page)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        atomic_write(page.with_suffix(".json"), json.dumps(trial.as_json(), indent=2) + "\n")
        atomic_write(page, text)
    except OSError as error:
        trial.report = ""
        raise FolderError(f"cannot write to {folder}: {error.strerror}") from error


def page_of_shadow(trial: ShadowTrial) -> str:
    """The report of a shadow trial in Markdown."""
    rules = trial.rules
    answers = (
        answers_in_words(trial.answers, trial.version) if trial.answers else "No request came.\n"
    )
    return f"""\
# Version {trial.version} of {trial.model} in the shadow of version {trial.against}: {trial.outcome}

{trial.reason[:1].upper()}{trial.reason[1:]}.

Started {trial.began} by {trial.who}, ran for {trial.seconds:.0f} s of {rules.seconds:.0f} s with \
{rules.percent:g} % of the requests.

{answers}
| rule | |
| --- | --- |
| errors | error rate at most {rules.max_errors:.2%} above that of stable |
| latency | 95th percentile at most {rules.max_latency_ratio:g} times that of stable |
| requests | at least {rules.min_requests} |
{_answer_rule(rules)}"""


def _answer_rule(rules: PromotionRules) -> str:
    return (
        f"| answers | labels differ in at most {rules.max_differ:.1%} of the rows, other outputs "
        f"by as much of their variance; population stability index at most {rules.max_psi:g} |\n"
    )


def page_of(trial: CanaryTrial) -> str:
    """The report in Markdown."""
    rules = trial.rules
    share = "-" if trial.share is None else f"{trial.share:.1%}"
    rows = [
        ("requests", *_both(trial, "requests", "{:,}")),
        ("errors", *_both(trial, "errors", "{:,}")),
        ("error rate", *_both(trial, "error_ratio", "{:.2%}")),
        *((f"latency, {name}", *_latency(trial, name)) for name in ("p50", "p95", "p99")),
    ]
    statuses = sorted({*trial.canary.get("statuses", {}), *trial.stable.get("statuses", {})})
    rows += [
        (f"status {name}", *(str(s.get("statuses", {}).get(name, 0)) for s in _sides(trial)))
        for name in statuses
    ]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    answers = "" if not trial.answers else f"\n{answers_in_words(trial.answers, trial.version)}"
    return f"""\
# Version {trial.version} of {trial.model}: {trial.outcome}

{trial.reason[:1].upper()}{trial.reason[1:]}.

Started {trial.began} by {trial.who}, ran for {trial.seconds:.0f} s of {rules.seconds:.0f} s.

| | canary, version {trial.version} | stable, version {trial.against} |
| --- | ---: | ---: |
{table}

Its share of the requests that name no version was set to {rules.percent:g} %; of all predictions
over REST that the gateway passed to either version, it got {share}.
{answers}
| rule | |
| --- | --- |
| errors | error rate at most {rules.max_errors:.2%} above that of stable |
| latency | 95th percentile at most {rules.max_latency_ratio:g} times that of stable |
| requests | at least {rules.min_requests} of each version |
{_answer_rule(rules)}"""


def answers_in_words(found: Mapping[str, Any], version: int) -> str:
    """A section in Markdown: how two versions answered the mirrored requests."""
    transports = " and ".join(
        f"{count:,} over {name}" for name, count in found["transports"].items()
    )
    both = (found["version"], found["against"])
    rows = [
        ("requests", *(f"{side['requests']:,}" for side in both)),
        ("errors", *(f"{side['errors']:,}" for side in both)),
        *(
            (f"latency, {name}", *(_milliseconds(side["seconds"][name]) for side in both))
            for name in ("p50", "p95", "p99")
        ),
    ]
    rows += [
        (f"class {name}", *(f"{side['classes'].get(name, 0):,}" for side in both))
        for name in sorted({*both[0]["classes"], *both[1]["classes"]})[:_MOST_CLASSES]
    ]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    examples = "".join(
        f"| {one['request']} | {one['row']} | {one['against']} | {one['version']} |\n"
        for one in found["examples"]
    )
    return f"""\
## The answers to the same requests

The gateway mirrored {transports or "no requests"}; {found["dropped"]:,} more were dropped.
{_differences(found)}
| | version {version} | stable |
| --- | ---: | ---: |
{table}

""" + (
        f"| request | row | stable | version {version} |\n| --- | ---: | --- | --- |\n{examples}"
        if examples
        else ""
    )


def _differences(found: Mapping[str, Any]) -> str:
    lines = []
    if decided := found["decided"]:
        lines.append(
            f"{found['differ']:,} of {decided:,} rows have another label or class "
            f"({found['differ'] / decided:.2%})."
        )
    if found["shifts"]:
        shifts = ", ".join(f"{shift['of']} {shift['psi']:.3f}" for shift in found["shifts"])
        lines.append(f"Population stability index: {shifts}.")
    lines += [
        f"Values of {output_in_words(name, one)} differ by {one['apart']:.1%} of their variance in "
        f"{one['rows']:,} rows."
        for name, one in found["outputs"].items()
    ]
    return "".join(f"{line}\n" for line in lines or ["No row was answered by both versions."])


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.1f} ms"


def _sides(trial: CanaryTrial) -> tuple[dict[str, Any], dict[str, Any]]:
    return trial.canary, trial.stable


def _both(trial: CanaryTrial, key: str, form: str) -> list[str]:
    return [form.format(side.get(key, 0)) for side in _sides(trial)]


def _latency(trial: CanaryTrial, name: str) -> list[str]:
    return [_milliseconds(side.get("seconds", {}).get(name)) for side in _sides(trial)]
