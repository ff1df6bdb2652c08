"""Runs on disk, without their network."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from servable_trainer.scoring.scores import score
from servable_trainer.training.run import Run, RunError, load_evaluation, save_evaluation

if TYPE_CHECKING:
    from pathlib import Path

EPOCH = {"loss": 1.0, "accuracy": 0.5, "val_loss": 0.9, "val_accuracy": 0.6}
EVALUATION = score(np.array([0, 1]), np.eye(2, dtype=np.float32), ("a", "b"))


def run(**changes: Any) -> Run:
    values: dict[str, Any] = {
        "dataset": "d", "checksums": {}, "labels": ["a", "b"], "size": (8, 8),
        "recipe": "baseline", "hyperparameters": {}, "seed": 0, "epochs": [EPOCH],
        "fitted": 10, "validated": 2, "seconds": 1.0,
    }  # fmt: skip
    return Run(**{**values, **changes})


def test_validation_is_that_of_the_last_epoch() -> None:
    last = {**EPOCH, "val_loss": 0.1}
    assert run(epochs=[EPOCH, last]).validation == {"loss": 0.1, "accuracy": 0.6}


@pytest.mark.parametrize("changes", [{"epochs": [{"loss": 1.0, "accuracy": 0.5}]}, {"epochs": []}])
def test_without_validation_there_is_none(changes: dict[str, Any]) -> None:
    assert run(**changes).validation is None


def test_a_record_of_an_earlier_version_has_no_processor_time() -> None:
    record = asdict(run(cpu_seconds=3.0))
    del record["cpu_seconds"]
    assert Run(**record).cpu_seconds is None


def test_an_evaluation_is_kept_with_the_run(tmp_path: Path) -> None:
    save_evaluation(tmp_path, EVALUATION)
    assert load_evaluation(tmp_path) == json.loads(json.dumps(asdict(EVALUATION)))


def test_a_run_without_an_evaluation(tmp_path: Path) -> None:
    assert load_evaluation(tmp_path) is None


def test_a_damaged_evaluation_is_refused_with_the_command_that_mends_it(tmp_path: Path) -> None:
    (tmp_path / "evaluation.json").write_text("{")
    with pytest.raises(RunError) as caught:
        load_evaluation(tmp_path)
    assert f"servable evaluate {tmp_path}" in str(caught.value.hint)


def test_an_evaluation_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(RunError):
        save_evaluation(tmp_path / "nowhere", EVALUATION)
