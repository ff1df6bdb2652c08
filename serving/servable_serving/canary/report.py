"""The report of a canary trial: its figures as JSON, and a page in Markdown."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from servable_serving.core.errors import FolderError
from servable_serving.core.files import atomic_write

if TYPE_CHECKING:
    from pathlib import Path

    from servable_serving.canary.trial import CanaryTrial

FOLDER = ".reports"


def write_report(trial: CanaryTrial, folder: Path) -> Path:
    """Write `canary-VERSION-TIME.json` and `.md` into a folder; returns the path of the latter.

    Raises:
        FolderError: It cannot be written.
    """
    stamp = trial.began.replace(":", "").replace("-", "").partition("+")[0]
    page = folder / f"canary-{trial.version}-{stamp}.md"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        atomic_write(page.with_suffix(".json"), json.dumps(trial.as_json(), indent=2) + "\n")
        atomic_write(page, page_of(trial))
    except OSError as error:
        raise FolderError(f"cannot write to {folder}: {error.strerror}") from error
    return page


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
    return f"""\
# Version {trial.version} of {trial.model}: {trial.outcome}

{trial.reason[:1].upper()}{trial.reason[1:]}.

Started {trial.began} by {trial.who}, ran for {trial.seconds:.0f} s of {rules.seconds:.0f} s.

| | canary, version {trial.version} | stable, version {trial.against} |
| --- | ---: | ---: |
{table}

Its share of the requests that name no version was set to {rules.percent:g} %; of all predictions
over REST that the gateway passed to either version, it got {share}.

| rule | |
| --- | --- |
| errors | error rate at most {rules.max_errors:.2%} above that of stable |
| latency | 95th percentile at most {rules.max_latency_ratio:g} times that of stable |
| requests | at least {rules.min_requests} of each version |
"""


def _sides(trial: CanaryTrial) -> tuple[dict[str, Any], dict[str, Any]]:
    return trial.canary, trial.stable


def _both(trial: CanaryTrial, key: str, form: str) -> list[str]:
    return [form.format(side.get(key, 0)) for side in _sides(trial)]


def _latency(trial: CanaryTrial, name: str) -> list[str]:
    found = [side.get("seconds", {}).get(name) for side in _sides(trial)]
    return ["-" if seconds is None else f"{seconds * 1000:.1f} ms" for seconds in found]
