"""Networks against classic methods, on real pictures."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.conftest import SHIPPED, only_sentence, servable

from servable_trainer.comparison.classic import METHODS
from servable_trainer.comparison.compare import Comparison, compare
from servable_trainer.comparison.contender import CompareError, Contender, Rule, best_of
from servable_trainer.comparison.page import check_page, write_page
from servable_trainer.evaluation.report import ReportError
from servable_trainer.training.run import RunError

if TYPE_CHECKING:
    from pathlib import Path

    from servable_trainer.data.dataset import Dataset


def contender(name: str, accuracy: float, ms: float, size: int, f1: float = 0.5) -> Contender:
    return Contender(
        name=name,
        network=False,
        settings="",
        pictures=1,
        accuracy=accuracy,
        interval=(0, 1),
        macro_f1=f1,
        fit_cpu_seconds=1,
        fit_seconds=1,
        predict_cpu_seconds=1,
        predict_cpu_ms=ms,
        size=size,
    )


GOOD = contender("good", 0.95, 2.0, 5_000_000, f1=0.7)
FAST = contender("fast", 0.80, 0.1, 9_000_000, f1=0.9)
SMALL = contender("small", 0.90, 1.0, 1_000_000)
SLOW = contender("slow", 0.95, 3.0, 5_000_000)
ALL = [SLOW, GOOD, FAST, SMALL]


@pytest.mark.parametrize(
    ("rule", "best"),
    [
        (Rule(), GOOD),  # as accurate as the slow one, at less cost
        (Rule(by="macro_f1"), FAST),
        (Rule(max_ms=1.0), SMALL),
        (Rule(max_ms=0.5), FAST),
        (Rule(max_mb=1.0), SMALL),
        (Rule(max_mb=6, max_ms=2), GOOD),
    ],
)
def test_the_best_by_each_rule(rule: Rule, best: Contender) -> None:
    assert best_of(ALL, rule) is best


def test_nothing_fits_the_budget() -> None:
    with pytest.raises(CompareError) as caught:
        best_of(ALL, Rule(max_ms=0.5, max_mb=8))
    assert str(caught.value).endswith("the budget of at most 0.5 CPU-ms a picture, at most 8 MB")
    assert caught.value.hint is not None
    assert "fast with 0.1" in caught.value.hint
    assert "small with 1.00 MB" in caught.value.hint


@pytest.fixture(scope="module")
def comparison(dataset: Dataset, run: Path) -> Comparison:
    return compare([SHIPPED, run], dataset, subset=600)


def test_everybody_takes_part(comparison: Comparison, run: Path) -> None:
    assert (comparison.dataset, comparison.test) == ("fashion_mnist", 100)
    found = {one.name: one for one in comparison.contenders}
    assert set(found) == {method.title for method in METHODS} | {str(SHIPPED), str(run)}
    accuracies = [one.accuracy for one in comparison.contenders]
    assert accuracies == sorted(accuracies, reverse=True)
    for one in comparison.contenders:
        assert one.accuracy > 0.5  # a tenth is what guessing gives
        assert one.interval[0] < one.accuracy < one.interval[1]
        assert 0.4 < one.macro_f1 <= 1
        assert one.predict_cpu_ms == pytest.approx(one.predict_cpu_seconds * 10)
        assert one.size > 1000
    for method in METHODS:
        assert found[method.title].pictures == 600
        assert (found[method.title].fit_cpu_seconds or 0) > 0
    # What the files themselves say of the networks.
    manifest = json.loads((SHIPPED / "assets.extra" / "manifest.json").read_text())
    assert found[str(SHIPPED)].pictures == manifest["training"]["pictures"]
    assert found[str(SHIPPED)].fit_seconds == manifest["training"]["seconds"]
    assert found[str(SHIPPED)].size == sum(
        path.stat().st_size for path in SHIPPED.rglob("*") if path.is_file()
    )
    assert found[str(run)].pictures == 2500
    assert found[str(run)].size == (run / "model.keras").stat().st_size
    # The neighbours carry all that they have seen.
    assert found["k-nearest neighbours"].size > found["linear SVM"].size


def test_the_page_says_what_was_measured(comparison: Comparison, tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    best = comparison.contenders[0]
    dollars = replace(comparison.contenders[-1], name="a|b $x$ <i>")
    spoilt = replace(comparison, contenders=[*comparison.contenders[:-1], dollars])
    write_page(path, spoilt, rule=Rule(), best=best)
    text = path.read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    cells = [len(re.split(r"(?<!\\)\|", row)) for row in rows]
    assert len(set(cells)) == 1  # no name breaks the table
    assert len(rows) == 2 + len(comparison.contenders)
    assert f"**{best.accuracy:.4f}**" in text
    assert "(page.svg)" in text
    told = json.loads((tmp_path / "page.json").read_text())
    assert told["best"] == best.name
    assert len(told["contenders"]) == len(comparison.contenders)
    svg = (tmp_path / "page.svg").read_text()
    assert "a|b $x$ &lt;i&gt;" in svg
    for method in METHODS:
        if method.title != comparison.contenders[-1].name:
            assert method.title in svg


def test_a_page_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="no name of a Markdown file"):
        check_page(tmp_path / "page.txt")
    (tmp_path / "page.svg").mkdir()
    with pytest.raises(ReportError, match="it is a folder"):
        check_page(tmp_path / "page.md")


def test_what_cannot_be_compared(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(CompareError, match="no method 'nosuch'") as caught:
        compare([], dataset, methods=["nosuch"])
    assert "rbf-svm" in str(caught.value.hint)
    with pytest.raises(CompareError, match="nothing to compare"):
        compare([], dataset, methods=[])
    with pytest.raises(CompareError, match="named twice"):
        compare([SHIPPED, SHIPPED], dataset)
    # At once, and not after the classic methods.
    with pytest.raises(RunError, match="holds no training run"):
        compare([tmp_path], dataset)
    with pytest.raises(RunError, match="other classes"):
        compare([SHIPPED], replace(dataset, labels=dataset.labels[::-1]))


def test_the_command_names_the_best_within_a_budget(tmp_path: Path) -> None:
    arguments = ("compare", SHIPPED, "--subset", 600, "--method", "linear-svm")
    done = servable(*arguments, "--json", "--output", tmp_path / "page.md")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["best"] == str(SHIPPED)
    assert answer == json.loads((tmp_path / "page.json").read_text())

    done = servable(*arguments, "--max-mb", 0.5)
    assert done.returncode == 0, done.stderr
    assert "the best is linear SVM: the highest accuracy, at most 0.5 MB" in done.stderr
    assert "linear SVM" in done.stdout

    done = servable(*arguments, "--max-mb", 0.001)
    assert "nothing fits the budget of at most 0.001 MB" in only_sentence(done)
    assert "linear SVM" in done.stdout  # the table is there all the same
