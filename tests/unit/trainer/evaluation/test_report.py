"""The report, rendered from fixed figures."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from servable_trainer.data.dataset import Dataset, Pictures
from servable_trainer.evaluation.examination import Examination, calibration_of, mistakes_of
from servable_trainer.evaluation.latency import Latency
from servable_trainer.evaluation.report import (
    ReportError,
    _percent,
    check_report,
    render,
    write_report,
)
from servable_trainer.evaluation.robustness import RobustnessPoint
from servable_trainer.scoring.scores import score

if TYPE_CHECKING:
    from pathlib import Path

LABELS = ("left", "right")
TARGETS = np.array([0, 0, 1, 1])
PROBABILITIES = np.array([[0.9, 0.1], [0.3, 0.7], [0.2, 0.8], [0.4, 0.6]])
TEST = Pictures(images=np.zeros((4, 3, 5), np.uint8), targets=TARGETS)
DATASET = Dataset(name="sides", labels=LABELS, train=TEST, test=TEST, checksums={"f": "abc"})
FOUND = Examination(
    subject={"what": "build/run", "kind": "run", "version": None},
    dataset={"name": "sides", "sha256": {"f": "abc"}},
    evaluation=score(TARGETS, PROBABILITIES, LABELS),
    confusion=[[1, 1], [0, 2]],
    calibration=calibration_of(TARGETS, PROBABILITIES, None),
    mistakes=mistakes_of(TARGETS, PROBABILITIES, LABELS),
    robustness=[
        RobustnessPoint(
            disturbance=name, level=level, unit=unit, accuracy=0.5, interval=(0.2, 0.8), count=4
        )
        for name, level, unit in (("none", 0, ""), ("noise", 8, "deviation"))
    ],
    latency=[
        Latency(batch=batch, calls=500, median_ms=1.25, p99_ms=2.5, cpu_ms=3.75)
        for batch in (1, 32)
    ],
    clock="in the test",
)


@pytest.fixture(autouse=True)
def _no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plots have tests of their own, and take most of the time."""
    for name in ("reliability_plot", "robustness_plot"):
        monkeypatch.setattr(f"servable_trainer.evaluation.plots.{name}", lambda _: "<svg/>")


def text(found: Examination = FOUND, dataset: Dataset = DATASET) -> str:
    return " ".join(render(found, dataset).replace("\u00a0", " ").split())


def test_the_figures_are_there() -> None:
    page = text()
    assert "75.00 %" in page
    assert "1.25 ms" in page
    assert "20.0\u201380.0 %" in page


def test_classes_and_checksums_are_there() -> None:
    page = text()
    assert "left" in page
    assert "f: abc" in page


def test_mistakes_show_their_image() -> None:
    page = text()
    assert page.count("data:image/png;base64,") == 1
    assert "aspect-ratio: 5 / 3" in page


def test_without_mistakes_the_page_says_so() -> None:
    assert "<ol" not in text(replace(FOUND, mistakes=[]))


def test_what_was_not_measured_is_left_out() -> None:
    page = text(replace(FOUND, robustness=None, latency=None))
    assert "Latency" not in page
    assert "Robustness" not in page


def test_other_peoples_text_is_escaped() -> None:
    evil = '"><script>alert(1)</script>{{ 7 * 7 }}'
    page = render(replace(FOUND, subject={**FOUND.subject, "what": evil}), DATASET)
    assert "<script" not in page
    assert "{{ 7 * 7 }}" in page


def test_images_in_colour() -> None:
    coloured = replace(TEST, images=np.zeros((4, 3, 5, 3), np.uint8))
    assert "data:image/png;base64," in text(dataset=replace(DATASET, test=coloured))


@pytest.mark.parametrize(
    ("share", "digits", "expected"),
    [
        (0.9452, 2, "94.52 %"),
        (0.0, 2, "0.00 %"),
        (1.0, 2, "100.00 %"),
        (0.00001, 2, "< 0.01 %"),
        (0.99999, 2, "> 99.99 %"),
        (0.99999, 1, "> 99.9 %"),
    ],
)
def test_shares_are_not_rounded_to_nothing_or_all(share: float, digits: int, expected: str) -> None:
    assert _percent(share, digits).replace("\u00a0", " ") == expected


def test_the_report_and_its_json_are_written(tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.html"
    beside = write_report(path, FOUND, DATASET)
    assert json.loads(beside.read_text()) == json.loads(json.dumps(FOUND.as_dict()))
    assert sorted(path.parent.iterdir()) == [path, beside]


def test_a_report_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    write_report(path, FOUND, DATASET)
    assert path.read_text().startswith("<!DOCTYPE html>")


@pytest.mark.parametrize("name", ["report", "report.txt", "report.json"])
def test_a_report_needs_the_suffix_of_html(tmp_path: Path, name: str) -> None:
    with pytest.raises(ReportError) as caught:
        check_report(tmp_path / name)
    assert "report.html" in str(caught.value.hint)


@pytest.mark.parametrize("name", ["report.html", "report.json"])
def test_a_directory_in_the_way_is_reported_before_any_work(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(ReportError, match=name):
        check_report(tmp_path / "report.html")


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ReportError):
        check_report(tmp_path / "file" / "report.html")
