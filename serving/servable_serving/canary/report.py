"""What a trial of a version leaves behind: its figures as JSON, and a page to read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from servable_serving.core.errors import FolderError
from servable_serving.core.files import atomic_write

if TYPE_CHECKING:
    from pathlib import Path

    from servable_serving.canary.run import Trial

FOLDER = ".reports"


def write_report(trial: Trial, folder: Path) -> Path:
    """Write `canary-VERSION-TIME.json` and `.md` into a folder; the second's path.

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


def page_of(trial: Trial) -> str:
    """The page, in Markdown."""
    rules = trial.rules
    share = "-" if trial.share is None else f"{trial.share:.1%}"
    rows = [
        ("requests", *_both(trial, "requests", "{:,}")),
        ("errors", *_both(trial, "errors", "{:,}")),
        ("share of errors", *_both(trial, "error_ratio", "{:.2%}")),
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

Begun {trial.began} by {trial.who}, watched for {trial.seconds:.0f} s of {rules.seconds:.0f} s.

| | canary, version {trial.version} | stable, version {trial.against} |
| --- | ---: | ---: |
{table}

It was to get {rules.percent:g} % of the requests that name no version; of all predictions over REST
that the gateway saw of the two, it got {share}.

| rule | |
| --- | --- |
| errors | at most {rules.max_errors:.2%} of the requests more than stable |
| latency | 95th percentile at most {rules.max_latency_ratio:g} times stable's |
| requests | at least {rules.min_requests} of each |
"""


def _sides(trial: Trial) -> tuple[dict[str, Any], dict[str, Any]]:
    return trial.canary, trial.stable


def _both(trial: Trial, key: str, form: str) -> list[str]:
    return [form.format(side.get(key, 0)) for side in _sides(trial)]


def _latency(trial: Trial, name: str) -> list[str]:
    found = [side.get("seconds", {}).get(name) for side in _sides(trial)]
    return ["-" if seconds is None else f"{seconds * 1000:.1f} ms" for seconds in found]
