"""Training, evaluating and exporting, on real images."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tests.conftest import SHIPPED, only_sentence
from tests.in_process import command

from servable_serving.core.errors import FolderError
from servable_trainer.evaluation.evaluate import evaluate
from servable_trainer.networks.classifier import HyperparameterError
from servable_trainer.scoring.metrics import negative_log_likelihood
from servable_trainer.training.export_run import export_run
from servable_trainer.training.run import RunError, load_run
from servable_trainer.training.train import train

if TYPE_CHECKING:
    from pathlib import Path

    from servable_trainer.data.dataset import Dataset

SMALL = {"width": 8, "stages": 1, "dense_units": 64, "batch_size": 64}


@pytest.fixture(scope="module")
def tiny_dataset(small_dataset: Dataset) -> Dataset:
    """Enough images to calibrate: 200 of them validate."""
    return replace(small_dataset, train=small_dataset.train.first(1200))


def test_an_invalid_hyperparameter_leaves_nothing(tiny_dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(HyperparameterError):
        train(tiny_dataset, directory=tmp_path / "run", hyperparameters={"width": "abc"})
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_known_before_any_training(
    small_dataset: Dataset, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FolderError, match="cannot write"):
        train(small_dataset, directory=tmp_path / "file" / "run", epochs=1000)


def test_one_seed_gives_one_curve(tiny_dataset: Dataset, tmp_path: Path) -> None:
    curves = [
        train(
            tiny_dataset,
            directory=tmp_path / str(index),
            hyperparameters=SMALL,
            epochs=2,
            seed=1,
        ).epochs
        for index in range(2)
    ]
    assert curves[0] == curves[1]


def test_a_run_records_its_training(run: Path, small_dataset: Dataset) -> None:
    record, model = load_run(run)
    assert (record.fitted, record.validated) == (2500, 500)
    assert record.seed == 7
    # All threads of at least one core worked for it.
    assert record.cpu_seconds is not None
    assert record.cpu_seconds > 0
    assert len(record.epochs) == 2
    assert record.validation == {
        "loss": record.epochs[-1]["val_loss"],
        "accuracy": record.epochs[-1]["val_accuracy"],
    }
    assert record.checksums == small_dataset.checksums
    # Defaults are recorded too.
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


def test_what_is_not_a_run(tmp_path: Path, small_data: Dataset) -> None:
    with pytest.raises(RunError, match="is not a training run"):
        evaluate(tmp_path, small_data)
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(RunError, match="is not a training run"):
        export_run(tmp_path, tmp_path / "candidate", small_data, name="n")
    assert "is not a training run" in only_sentence(command("export", tmp_path))


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
    assert manifest["reference"]["rows"] == sum(manifest["reference"]["classes"].values()) == 500


def test_the_shipped_model_is_as_good_as_its_manifest_says(dataset: Dataset) -> None:
    found = evaluate(SHIPPED, dataset)
    manifest = json.loads((SHIPPED / "assets.extra" / "manifest.json").read_text())
    assert found.count == 10_000
    assert found.accuracy >= 0.945
    assert found.accuracy == pytest.approx(manifest["metrics"]["test"]["accuracy"], abs=5e-4)


def test_the_command_evaluates(small_data: Dataset) -> None:
    done = command("evaluate", SHIPPED)
    assert done.returncode == 0, done.stderr
    for label in small_data.labels:
        assert label in done.stdout
    assert "precision" in done.stdout


def test_a_temperature_becomes_part_of_the_weights(tiny_dataset: Dataset, tmp_path: Path) -> None:
    """The likelihood of held-out images rises, and no prediction changes."""
    options: dict[str, Any] = {
        "hyperparameters": {**SMALL, "label_smoothing": 0.2},
        "epochs": 2,
        "seed": 3,
    }
    train(tiny_dataset, directory=tmp_path / "with", **options)
    train(tiny_dataset, directory=tmp_path / "without", calibrate=False, **options)
    (run, network), (plain_run, plain) = (load_run(tmp_path / n) for n in ("with", "without"))
    assert (plain_run.temperature, plain_run.calibrated) == (1, 0)
    assert run.calibrated == 200
    assert run.temperature != pytest.approx(1, abs=0.02)
    assert run.epochs == plain_run.epochs
    last = (one.layers[-1].get_weights() for one in (plain, network))
    for before, after in zip(*last, strict=True):
        np.testing.assert_allclose(after * run.temperature, before, rtol=1e-6)
    _, kept_back = tiny_dataset.split(seed=3)
    before, after = (n.predict(kept_back.images, verbose=0) for n in (plain, network))
    np.testing.assert_array_equal(after.argmax(axis=1), before.argmax(axis=1))
    assert negative_log_likelihood(kept_back.targets, after) < negative_log_likelihood(
        kept_back.targets, before
    )
    manifest = export_run(tmp_path / "with", tmp_path / "c", tiny_dataset, name="n")
    assert manifest["calibration"] == {"temperature": run.temperature, "pictures": 200}


def test_too_few_images_give_no_temperature(tiny_dataset: Dataset, tmp_path: Path) -> None:
    run = train(
        tiny_dataset, directory=tmp_path / "run", hyperparameters=SMALL, epochs=1, validation=0.05
    )
    assert run.validated == 60
    assert (run.temperature, run.calibrated) == (1, 0)
