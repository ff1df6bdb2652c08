"""The report of a trial: two files, readable by machines and by people."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from servable_serving.canary.report import page_of, write_report
from servable_serving.canary.rules import PromotionRules
from servable_serving.canary.traffic_meter import Tally
from servable_serving.canary.trial import PROMOTED, CanaryTrial
from servable_serving.core.errors import FolderError


@pytest.fixture
def trial() -> CanaryTrial:
    return CanaryTrial(
        model="m",
        version=4,
        against=3,
        rules=PromotionRules(percent=25.0),
        began="2026-01-02T03:04:05+00:00",
        who="me@here",
        outcome=PROMOTED,
        reason="version 4 is as good as version 3",
        seconds=600.4,
        canary=Tally({"OK": 1200, "INTERNAL": 3}, {0.1: 1200}).as_json(),
        stable=Tally({"OK": 3609, "NOT_FOUND": 1}, {0.1: 3609}).as_json(),
    )


def test_files_are_named_by_version_and_time(trial: CanaryTrial, tmp_path: Path) -> None:
    write_report(trial, tmp_path / "new" / "folder")
    page = Path(trial.report)
    assert page.name == "canary-4-20260102T030405.md"
    assert sorted(path.suffix for path in page.parent.iterdir()) == [".json", ".md"]


def test_the_json_is_all_of_the_trial(trial: CanaryTrial, tmp_path: Path) -> None:
    write_report(trial, tmp_path)
    found = json.loads(Path(trial.report).with_suffix(".json").read_text())
    assert found == json.loads(json.dumps(trial.as_json()))


def test_a_folder_that_cannot_be_written_is_an_error(trial: CanaryTrial, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FolderError, match="file"):
        write_report(trial, tmp_path / "file")


def test_the_title_is_the_outcome(trial: CanaryTrial) -> None:
    assert page_of(trial).startswith("# Version 4 of m: promoted\n")


def test_figures_of_both_versions_stand_side_by_side(trial: CanaryTrial) -> None:
    assert "| requests | 1,203 | 3,610 |" in page_of(trial)
    assert "| latency, p95 | 95.0 ms | 95.0 ms |" in page_of(trial)


def test_a_status_of_one_version_has_a_row_for_both(trial: CanaryTrial) -> None:
    page = page_of(trial)
    assert "| status INTERNAL | 3 | 0 |" in page
    assert "| status NOT_FOUND | 0 | 1 |" in page


def test_the_share_that_it_got_is_told(trial: CanaryTrial) -> None:
    assert "25.0%." in page_of(trial)


def test_a_trial_without_figures_has_a_page(trial: CanaryTrial) -> None:
    trial.canary, trial.stable = {}, {}
    page = page_of(trial)
    assert "| requests | 0 | 0 |" in page
    assert "| latency, p99 | - | - |" in page
