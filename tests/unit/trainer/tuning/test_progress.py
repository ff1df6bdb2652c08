"""The progress of a search as lines."""

from __future__ import annotations

import pytest

from servable_trainer.tuning.progress import SearchProgress
from servable_trainer.tuning.trials import Trial

GOOD = Trial(hyperparameters={}, score=0.9, name="0001", seconds=3.0)


@pytest.fixture
def progress() -> SearchProgress:
    return SearchProgress()


def err(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err


def test_a_trial_that_starts(progress: SearchProgress, capsys: pytest.CaptureFixture[str]) -> None:
    progress.trial_started("0000", {"units": 8, "tuner/epochs": 2})
    assert err(capsys).strip() == "trial 0000  units 8"


def test_a_trial_that_continues_another_on_a_worker(
    progress: SearchProgress, capsys: pytest.CaptureFixture[str]
) -> None:
    progress.trial_started("0003", {"tuner/trial_id": "0001"}, worker="one")
    said = err(capsys)
    assert "on one" in said
    assert "0001" in said


def test_an_epoch(progress: SearchProgress, capsys: pytest.CaptureFixture[str]) -> None:
    progress.epoch("0000", 1, 2, {"val_accuracy": 0.5, "loss": 1.25, "top_k": 3}, 4.4)
    assert "epoch 1/2  loss 1.2500  top k 3.0000  validation accuracy 0.5000  4 s" in err(capsys)


def test_a_completed_trial_names_the_best(
    progress: SearchProgress, capsys: pytest.CaptureFixture[str]
) -> None:
    progress.trial_ended(GOOD, [GOOD])
    assert "0.9000" in err(capsys)


def test_a_failed_trial_names_its_error(
    progress: SearchProgress, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = Trial(hyperparameters={}, score=None, name="0002", error="ValueError: x")
    progress.trial_ended(failed, [])
    assert "ValueError: x" in err(capsys)


def test_a_listener_hears_of_epochs(progress: SearchProgress) -> None:
    heard: list[tuple[object, ...]] = []
    progress.on_epoch(lambda *said: heard.append(said))
    progress.epoch("0000", 1, 2, {}, 1.0)
    assert heard == [("0000", 1, 2, {}, 1.0)]


def test_the_table_shows_running_trials_and_the_best(progress: SearchProgress) -> None:
    from rich.console import Console

    progress.set_best([GOOD])
    progress.trial_started("0002", {})
    progress.batch("0002", 3, 10)
    console = Console(width=100)
    with console.capture() as captured:
        console.print(progress._renderable())
    text = captured.get()
    assert "0.9000" in text
    assert "trial 0002" in text


@pytest.mark.parametrize("way", ["ended", "cancelled"])
def test_a_trial_that_is_over_leaves_the_table(progress: SearchProgress, way: str) -> None:
    progress.trial_started("0001", {})
    if way == "ended":
        progress.trial_ended(GOOD, [GOOD])
    else:
        progress.trial_cancelled("0001")
    assert not progress._running
