"""Trials on disk, and as a table."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from servable_trainer.tuning.trials import (
    SearchResult,
    Trial,
    TuneError,
    load_hyperparameters,
    one_line,
    print_trials,
    save_trials,
    trials_of,
)

if TYPE_CHECKING:
    from pathlib import Path


def result(*trials: Trial) -> SearchResult:
    return SearchResult(trials=list(trials), ended="trials", seconds=1.0, search={}, space=[])


def completed(name: str, accuracy: float, **values: Any) -> Trial:
    return Trial(hyperparameters=values, score=accuracy, name=name)


FAILED = Trial(hyperparameters={"width": 7}, score=None, status="failed", error="ValueError")


def test_saved_trials_give_the_best_hyperparameters(tmp_path: Path) -> None:
    path = save_trials(
        tmp_path, result(completed("1", 0.9, width=8), completed("0", 0.5, width=16))
    )
    assert path == tmp_path / "trials.json"
    assert load_hyperparameters(path) == {"width": 8}


def test_the_file_has_a_format_and_an_objective(tmp_path: Path) -> None:
    content = json.loads(save_trials(tmp_path, result(FAILED)).read_text())
    assert (content["format"], content["objective"]) == (2, "val_accuracy")
    assert content["trials"][0]["error"] == "ValueError"


def test_trials_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "trials.json").mkdir()
    with pytest.raises(TuneError):
        save_trials(tmp_path, result())


@pytest.mark.parametrize("content", [{"width": 8}, [{"hyperparameters": {"width": 8}}]])
def test_other_files_of_hyperparameters(tmp_path: Path, content: object) -> None:
    path = tmp_path / "values.json"
    path.write_text(json.dumps(content))
    assert load_hyperparameters(path) == {"width": 8}


@pytest.mark.parametrize(
    "content",
    ["", "[]", "7", '[{"a": 1}]', '{"format": 1, "trials": []}', '{"trials": []}', '"text"'],
)
def test_files_without_hyperparameters(tmp_path: Path, content: str) -> None:
    path = tmp_path / "trials.json"
    path.write_text(content)
    with pytest.raises(TuneError, match=r"trials\.json"):
        load_hyperparameters(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(TuneError):
        load_hyperparameters(tmp_path / "nowhere.json")


def test_another_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "trials.json"
    path.write_text('{"format": 3, "trials": [{"hyperparameters": {"width": 8}}]}')
    with pytest.raises(TuneError, match="format 3"):
        load_hyperparameters(path)


def test_only_failed_trials_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TuneError):
        load_hyperparameters(save_trials(tmp_path, result(FAILED)))


def test_the_table_omits_what_all_trials_share(capsys: pytest.CaptureFixture[str]) -> None:
    print_trials(
        [completed("0", 0.9, width=8, kind="plain"), completed("1", 0.5, width=16, kind="plain")]
    )
    out = capsys.readouterr().out
    assert "width 8" in out
    assert "plain" not in out


def test_a_single_trial_shows_all_its_hyperparameters(capsys: pytest.CaptureFixture[str]) -> None:
    print_trials([completed("0", 0.9, width=8, kind="plain")])
    assert "kind plain, width 8" in capsys.readouterr().out


def test_the_table_counts_failed_trials(capsys: pytest.CaptureFixture[str]) -> None:
    print_trials([completed("0", 0.9), FAILED])
    assert "1 trial, 1 failed" in capsys.readouterr().out


def test_the_table_ends_after_a_number_of_rows(capsys: pytest.CaptureFixture[str]) -> None:
    print_trials([completed(f"name{n}", 0.5) for n in range(5)], count=2)
    out = capsys.readouterr().out
    assert "name1" in out
    assert "name2" not in out


@pytest.mark.parametrize(("count", "text"), [(0, "0 trials"), (1, "1 trial"), (2, "2 trials")])
def test_trials_in_words(count: int, text: str) -> None:
    assert trials_of(count) == text


def test_hyperparameters_in_one_line() -> None:
    assert one_line({"b": 0.123456, "a": True, "c": "x"}) == "a True, b 0.123, c x"
