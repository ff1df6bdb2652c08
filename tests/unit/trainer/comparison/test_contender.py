"""The rule that names the best, and the page of a comparison."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from servable_trainer.comparison.compare import Comparison
from servable_trainer.comparison.contender import CompareError, Contender, Rule, best_of
from servable_trainer.comparison.page import as_dict, check_page, print_comparison, write_page
from servable_trainer.evaluation.report import ReportError

if TYPE_CHECKING:
    from pathlib import Path


def contender(name: str, accuracy: float, ms: float, size: int, **more: Any) -> Contender:
    values: dict[str, Any] = {
        "network": False,
        "settings": "defaults",
        "pictures": 1000,
        "interval": (0.1, 0.9),
        "macro_f1": 0.5,
        "fit_cpu_seconds": 1.5,
        "fit_seconds": 2.0,
        "predict_cpu_seconds": 1.0,
    }
    return Contender(
        name=name, accuracy=accuracy, predict_cpu_ms=ms, size=size, **{**values, **more}
    )


GOOD = contender("good", 0.95, 2.0, 5_000_000, macro_f1=0.7)
FAST = contender("fast", 0.80, 0.1, 9_000_000, macro_f1=0.9)
SMALL = contender("small", 0.90, 1.0, 1_000_000)
SLOW = contender("slow", 0.95, 3.0, 5_000_000)
ALL = [SLOW, GOOD, FAST, SMALL]
COMPARISON = Comparison(dataset="garments", test=100, contenders=ALL, cpu_seconds=90.0)


@pytest.mark.parametrize(
    ("rule", "best"),
    [
        (Rule(), GOOD),  # as accurate as the slow one, at a lower cost
        (Rule(by="macro_f1"), FAST),
        (Rule(max_ms=1.0), SMALL),
        (Rule(max_ms=0.5), FAST),
        (Rule(max_mb=1.0), SMALL),
        (Rule(max_mb=6, max_ms=2), GOOD),
    ],
)
def test_the_best_by_each_rule(rule: Rule, best: Contender) -> None:
    assert best_of(ALL, rule) is best


def test_a_budget_that_nothing_fits_names_the_fastest_and_the_smallest() -> None:
    with pytest.raises(CompareError, match=r"0\.5 CPU-ms .*8 MB") as caught:
        best_of(ALL, Rule(max_ms=0.5, max_mb=8))
    assert "fast" in str(caught.value.hint)
    assert "small" in str(caught.value.hint)


@pytest.mark.parametrize("rule", [Rule(), Rule(by="macro_f1", max_ms=2, max_mb=3.5)])
def test_a_rule_in_words_names_all_its_limits(rule: Rule) -> None:
    text = str(rule)
    assert ("macro F1" in text) == (rule.by == "macro_f1")
    assert all(f"{limit:g}" in text for limit in (rule.max_ms, rule.max_mb) if limit)


@pytest.fixture
def _no_plot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("servable_trainer.evaluation.plots.cost_plot", lambda *_, **__: "<svg/>")


def page(tmp_path: Path, comparison: Comparison = COMPARISON, best: Contender | None = GOOD) -> str:
    write_page(tmp_path / "page.md", comparison, rule=Rule(), best=best)
    return (tmp_path / "page.md").read_text()


@pytest.mark.usefixtures("_no_plot")
def test_the_page_has_a_row_for_each(tmp_path: Path) -> None:
    rows = [line for line in page(tmp_path).splitlines() if line.startswith("| ")]
    assert len(rows) == 2 + len(ALL)


@pytest.mark.usefixtures("_no_plot")
def test_the_best_is_bold(tmp_path: Path) -> None:
    assert "| **good** | **0.9500** |" in page(tmp_path)


def test_names_cannot_break_the_table(tmp_path: Path) -> None:
    odd = replace(SLOW, name="a|b $x$ <i>")
    text = page(tmp_path, replace(COMPARISON, contenders=[GOOD, odd]))
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len({len(re.split(r"(?<!\\)\|", row)) for row in rows}) == 1
    assert "a|b $x$ &lt;i&gt;" in (tmp_path / "page.svg").read_text()


@pytest.mark.usefixtures("_no_plot")
@pytest.mark.parametrize(
    ("cpu", "clock", "cell"),
    [(1.5, 9.0, "| 1.5 |"), (None, 9.0, "| (9 s) |"), (None, None, "unknown")],
)
def test_the_time_of_a_fit(
    tmp_path: Path, cpu: float | None, clock: float | None, cell: str
) -> None:
    one = replace(SLOW, fit_cpu_seconds=cpu, fit_seconds=clock)
    assert cell in page(tmp_path, replace(COMPARISON, contenders=[one]), best=None)


@pytest.mark.usefixtures("_no_plot")
def test_the_json_names_the_best_and_the_rule(tmp_path: Path) -> None:
    page(tmp_path)
    written = json.loads((tmp_path / "page.json").read_text())
    assert (written["best"], written["rule"]["by"]) == ("good", "accuracy")
    assert len(written["contenders"]) == 4


def test_without_a_best_the_json_has_none() -> None:
    assert as_dict(COMPARISON, rule=Rule(), best=None)["best"] is None


def test_the_table_of_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_comparison(COMPARISON)
    out = capsys.readouterr().out
    assert "garments" in out
    assert all(one.name in out for one in ALL)


def test_a_page_needs_the_suffix_of_markdown(tmp_path: Path) -> None:
    with pytest.raises(ReportError) as caught:
        check_page(tmp_path / "page.txt")
    assert "page.md" in str(caught.value.hint)


@pytest.mark.parametrize("suffix", [".md", ".svg", ".json"])
def test_a_directory_in_the_way_is_reported_before_any_work(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"page{suffix}").mkdir()
    with pytest.raises(ReportError):
        check_page(tmp_path / "page.md")
