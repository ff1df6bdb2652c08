"""Tuning, training, evaluating and exporting, on real pictures."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.conftest import SHIPPED, only_sentence, servable

from servable_serving.core.errors import FolderError
from servable_trainer.evaluation.evaluate import evaluate
from servable_trainer.networks.classifier import HyperparameterError
from servable_trainer.scoring.metrics import negative_log_likelihood
from servable_trainer.scoring.scores import score
from servable_trainer.training.export_run import export_run
from servable_trainer.training.run import RunError, load_run
from servable_trainer.training.train import train

if TYPE_CHECKING:
    from pathlib import Path

    from servable_trainer.data.dataset import Dataset

SMALL = {"width": 16, "stages": 2, "dense_units": 64, "batch_size": 128}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"width": "abc"}, "width is 'abc'"),
        ({"flip": 1}, "must be true or false"),
        ({"kernel_size": -1}, "must be [3, 5]"),
        ({"blocks": 9}, "must be 1 to 3"),
        ({"dropout": 7}, "must be 0.0 to 0.5"),
        ({"batch_size": 63}, "must be [64, 128, 256]"),
        ({"learning_rate": "x"}, "learning_rate is 'x'"),
        ({"nosuch": 1}, "no hyperparameter 'nosuch'"),
    ],
)
def test_what_is_not_of_the_space(
    values: dict[str, object], words: str, small_dataset: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(HyperparameterError) as caught:
        train(small_dataset, directory=tmp_path / "run", hyperparameters=values)
    assert words in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_known_before_any_training(
    small_dataset: Dataset, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FolderError, match="cannot write"):
        train(small_dataset, directory=tmp_path / "file" / "run", epochs=1000)


def test_one_seed_gives_one_curve(small_dataset: Dataset, tmp_path: Path) -> None:
    curves = [
        train(
            small_dataset,
            directory=tmp_path / str(index),
            hyperparameters=SMALL,
            epochs=2,
            seed=seed,
        ).epochs
        for index, seed in enumerate((1, 1, 2))
    ]
    assert curves[0] == curves[1]
    assert curves[0] != curves[2]


def test_a_run_tells_how_it_came_to_be(run: Path, small_dataset: Dataset) -> None:
    record, model = load_run(run)
    assert (record.fitted, record.validated) == (2500, 500)
    assert record.seed == 7
    assert len(record.epochs) == 2
    assert record.validation == {
        "loss": record.epochs[-1]["val_loss"],
        "accuracy": record.epochs[-1]["val_accuracy"],
    }
    assert record.checksums == small_dataset.checksums
    # What was not named is written down with the value that it had.
    assert record.hyperparameters["kernel_size"] == 3
    assert model.input_shape == (None, 28, 28)


def test_a_run_goes_on_from_another_with_all_the_data(
    run: Path, small_dataset: Dataset, tmp_path: Path
) -> None:
    before, _ = load_run(run)
    record = train(
        small_dataset, directory=tmp_path / "run", epochs=1, start_from=run, all_data=True
    )
    assert (record.fitted, record.validated, record.validation) == (3000, 0, None)
    assert record.hyperparameters == before.hyperparameters
    assert record.started_from is not None
    assert record.started_from["epochs"] == before.epochs
    # Nothing is left to fit a temperature to: it is the one that was fitted before.
    assert (record.temperature, record.calibrated) == (before.temperature, 0)
    assert record.epochs[0]["loss"] < before.epochs[0]["loss"] / 1.5  # it did not begin anew


def test_a_folder_that_exists_is_refused_before_any_training(
    run: Path, small_dataset: Dataset
) -> None:
    before = (run / "run.json").read_bytes()
    with pytest.raises(FolderError, match="exists already"):
        train(small_dataset, directory=run)
    assert (run / "run.json").read_bytes() == before


def test_what_is_no_run(tmp_path: Path, dataset: Dataset) -> None:
    with pytest.raises(RunError, match="holds no training run"):
        evaluate(tmp_path, dataset)
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(RunError, match="holds no training run"):
        export_run(tmp_path, tmp_path / "candidate", dataset, name="n")
    assert "holds no training run" in only_sentence(servable("export", tmp_path))


def test_the_evaluation_is_right_by_hand() -> None:
    targets = np.array([0, 0, 0, 1, 1, 2])
    answers = np.eye(3, dtype=np.float32)[[0, 0, 1, 1, 2, 2]]
    found = score(targets, answers, ("a", "b", "c"))
    assert found.accuracy == pytest.approx(4 / 6)
    a, b, c = found.classes
    assert (a.precision, a.recall, a.support) == (1, pytest.approx(2 / 3), 3)
    assert (b.precision, b.recall) == (0.5, 0.5)
    assert (c.precision, c.recall, c.f1) == (0.5, 1, pytest.approx(2 / 3))
    assert found.macro_f1 == pytest.approx((0.8 + 0.5 + 2 / 3) / 3)


def test_a_run_and_its_export_fare_the_same(
    run: Path, candidate: Path, small_dataset: Dataset
) -> None:
    one, other = evaluate(run, small_dataset), evaluate(candidate, small_dataset)
    # The graphs differ in their last digits, which no answer hangs on.
    assert other.calibration_error == pytest.approx(one.calibration_error, abs=2e-3)
    assert replace(other, calibration_error=one.calibration_error) == one
    assert one.count == 1000
    assert one.accuracy > 0.5
    manifest = json.loads((candidate / "assets.extra" / "manifest.json").read_text())
    test = manifest["metrics"]["test"]
    assert test["accuracy"] == one.accuracy
    assert test["interval"] == list(one.interval)
    assert test["calibration_error"] == one.calibration_error
    assert len(json.dumps(test)) < 3000  # figures, not pictures
    assert manifest["metrics"]["validation"]["count"] == 500


def test_the_shipped_model_is_as_good_as_its_manifest_says(dataset: Dataset) -> None:
    found = evaluate(SHIPPED, dataset)
    manifest = json.loads((SHIPPED / "assets.extra" / "manifest.json").read_text())
    assert found.count == 10_000
    assert found.accuracy >= 0.945
    assert found.accuracy == pytest.approx(manifest["metrics"]["test"]["accuracy"], abs=5e-4)


def test_the_command_evaluates(small_dataset: Dataset) -> None:
    assert small_dataset.labels  # the data are on this machine by now
    done = servable("evaluate", SHIPPED)
    assert done.returncode == 0, done.stderr
    for label in small_dataset.labels:
        assert label in done.stdout
    assert "precision" in done.stdout


def test_a_temperature_becomes_part_of_the_weights(small_dataset: Dataset, tmp_path: Path) -> None:
    """What is said with some probability is right more nearly as often; no answer changes."""
    options = {"hyperparameters": {**SMALL, "label_smoothing": 0.2}, "epochs": 2, "seed": 3}
    train(small_dataset, directory=tmp_path / "with", **options)
    train(small_dataset, directory=tmp_path / "without", calibrate=False, **options)
    (run, network), (plain_run, plain) = (load_run(tmp_path / n) for n in ("with", "without"))
    assert (plain_run.temperature, plain_run.calibrated) == (1, 0)
    assert run.calibrated == 500
    assert run.temperature != pytest.approx(1, abs=0.02)
    assert run.epochs == plain_run.epochs
    last = (one.layers[-1].get_weights() for one in (plain, network))
    for before, after in zip(*last, strict=True):
        np.testing.assert_allclose(after * run.temperature, before, rtol=1e-6)
    _, kept_back = small_dataset.split(seed=3)
    before, after = (n.predict(kept_back.images, verbose=0) for n in (plain, network))
    np.testing.assert_array_equal(after.argmax(axis=1), before.argmax(axis=1))
    assert negative_log_likelihood(kept_back.targets, after) < negative_log_likelihood(
        kept_back.targets, before
    )
    manifest = export_run(tmp_path / "with", tmp_path / "c", small_dataset, name="n")
    assert manifest["calibration"] == {"temperature": run.temperature, "pictures": 500}


def test_too_few_pictures_give_no_temperature(small_dataset: Dataset, tmp_path: Path) -> None:
    run = train(
        small_dataset, directory=tmp_path / "run", hyperparameters=SMALL, epochs=1, validation=0.05
    )
    assert run.validated == 150
    assert (run.temperature, run.calibrated) == (1, 0)
