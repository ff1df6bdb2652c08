"""Networks against classic methods, on real images."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.conftest import SHIPPED, only_sentence
from tests.in_process import command

from servable_trainer.comparison.classic import METHODS
from servable_trainer.comparison.compare import Comparison, compare
from servable_trainer.comparison.contender import CompareError
from servable_trainer.training.run import RunError, load_run

if TYPE_CHECKING:
    from pathlib import Path

    from servable_trainer.data.dataset import Dataset


@pytest.fixture(scope="module")
def comparison(dataset: Dataset, run: Path) -> Comparison:
    return compare([SHIPPED, run], dataset, subset=300)


def test_all_are_compared(comparison: Comparison, run: Path) -> None:
    assert (comparison.dataset, comparison.test) == ("fashion_mnist", 50)
    found = {one.name: one for one in comparison.contenders}
    assert set(found) == {method.title for method in METHODS} | {str(SHIPPED), str(run)}
    accuracies = [one.accuracy for one in comparison.contenders]
    assert accuracies == sorted(accuracies, reverse=True)
    for one in comparison.contenders:
        assert one.accuracy > 0.4  # guessing gives a tenth
        assert one.interval[0] < one.accuracy <= one.interval[1]
        assert 0.3 < one.macro_f1 <= 1
        assert one.predict_cpu_ms == pytest.approx(one.predict_cpu_seconds * 20)
        assert one.size > 1000
    for method in METHODS:
        assert found[method.title].pictures == 300
        assert (found[method.title].fit_cpu_seconds or 0) > 0
    # What the files themselves say of the networks.
    manifest = json.loads((SHIPPED / "assets.extra" / "manifest.json").read_text())
    assert found[str(SHIPPED)].pictures == manifest["training"]["pictures"]
    assert found[str(SHIPPED)].fit_seconds == manifest["training"]["seconds"]
    assert found[str(SHIPPED)].size == sum(
        path.stat().st_size for path in SHIPPED.rglob("*") if path.is_file()
    )
    assert found[str(run)].pictures == 2500
    assert found[str(run)].fit_cpu_seconds == load_run(run)[0].cpu_seconds
    assert found[str(run)].size == (run / "model.keras").stat().st_size
    # The neighbours carry all that they have seen.
    assert found["k-nearest neighbours"].size > found["linear SVM"].size


def test_what_cannot_be_compared(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(CompareError, match="unknown method 'nosuch'") as caught:
        compare([], dataset, methods=["nosuch"])
    assert "rbf-svm" in str(caught.value.hint)
    with pytest.raises(CompareError, match="nothing to compare"):
        compare([], dataset, methods=[])
    with pytest.raises(CompareError, match="given twice"):
        compare([SHIPPED, SHIPPED], dataset)
    # At once, and not after the classic methods.
    with pytest.raises(RunError, match="is not a training run"):
        compare([tmp_path], dataset)
    with pytest.raises(RunError, match="other classes"):
        compare([SHIPPED], replace(dataset, labels=dataset.labels[::-1]))


def test_the_command_names_the_best_within_a_budget(small_data: Dataset, tmp_path: Path) -> None:
    assert small_data.labels
    arguments = ("compare", SHIPPED, "--subset", 300, "--method", "linear-svm")
    done = command(*arguments, "--json", "--output", tmp_path / "page.md")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["best"] == str(SHIPPED)
    assert answer == json.loads((tmp_path / "page.json").read_text())

    done = command(*arguments, "--max-mb", 0.5)
    assert done.returncode == 0, done.stderr
    assert "best: linear SVM" in done.stderr
    assert "linear SVM" in done.stdout

    done = command(*arguments, "--max-mb", 0.001)
    assert "nothing fits the budget of at most 0.001 MB" in only_sentence(done)
    assert "linear SVM" in done.stdout  # the table is printed in any case
