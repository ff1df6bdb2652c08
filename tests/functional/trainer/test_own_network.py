"""Tuning and training of a network of one's own."""

from __future__ import annotations

import json
import sys
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import keras
import numpy as np
import pytest
from tests.conftest import free_port
from tests.functional.trainer import own_networks
from tests.functional.trainer.searches import trials_in
from tests.in_process import command

from servable_client import ServableError
from servable_serving.core.errors import UserCodeError
from servable_serving.exporter.errors import ExportError
from servable_serving.model.saved_model import SavedModel
from servable_trainer.data.dataset import DatasetError
from servable_trainer.data.own_data import as_own_data, own_data
from servable_trainer.evaluation.evaluate import evaluate
from servable_trainer.networks.classifier import HyperparameterError
from servable_trainer.networks.own_network import NetworkError, OwnNetwork
from servable_trainer.training.checkpoint import KeepEpochs
from servable_trainer.training.export_run import export_run
from servable_trainer.training.run import RunError, load_run
from servable_trainer.training.train_own import train_own
from servable_trainer.tuning.distributed.roles import Role
from servable_trainer.tuning.distributed.run import follow, lead
from servable_trainer.tuning.project import SearchBudget, SearchSettings
from servable_trainer.tuning.results import SearchFailed
from servable_trainer.tuning.subject import subject_of
from servable_trainer.tuning.trials import TuneError
from servable_trainer.tuning.tune import tune

if TYPE_CHECKING:
    from pathlib import Path

    import keras_tuner

    from servable_trainer.data.dataset import Dataset

PLACE = "tests.functional.trainer.own_networks"


def network(name: str, **options: Any) -> OwnNetwork:
    return OwnNetwork.named(f"{PLACE}:{name}", **options)


def data(name: str = "table") -> Any:
    return own_data(f"{PLACE}:{name}")


def test_a_search_on_images(small_dataset: Dataset, tmp_path: Path) -> None:
    found = tune(
        small_dataset, directory=tmp_path, classifier=network("tutorial"), trials=3, epochs=1,
        subset=200, seed=1,
    )  # fmt: skip
    scores = [trial.score for trial in found]
    assert scores == sorted(scores, reverse=True)  # type: ignore[type-var]
    record = json.loads((tmp_path / "trials.json").read_text())
    assert (record["objective"], record["direction"]) == ("val_accuracy", "max")
    # What is asked for under a condition is part of the space from the start.
    assert {one["config"]["name"] for one in record["space"]} == {"kind", "units"}
    assert "validation accuracy" in (tmp_path / "trials.html").read_text()
    for trial in found:
        assert set(trial.epochs[0]) >= {"loss", "accuracy", "val_loss", "val_accuracy"}


def test_an_overridden_fit_may_ask_for_hyperparameters(
    small_dataset: Dataset, tmp_path: Path
) -> None:
    found = tune(
        small_dataset, directory=tmp_path, classifier=network("Batched"), trials=3, epochs=1,
        subset=200, fixed={"units": 8},
    )  # fmt: skip
    later = [trial.hyperparameters for trial in found if trial.name != "0000"]
    assert all(point["batch"] in (50, 100) for point in later)
    assert {trial.hyperparameters["units"] for trial in found} == {8}


def test_such_a_hyperparameter_can_be_fixed(small_dataset: Dataset, tmp_path: Path) -> None:
    found = tune(
        small_dataset, directory=tmp_path, classifier=network("Batched"), trials=2, epochs=1,
        subset=200, fixed={"batch": 100},
    )  # fmt: skip
    assert [trial.hyperparameters["batch"] for trial in found] == [100, 100]


def test_data_of_its_own_and_an_objective_to_minimize(tmp_path: Path) -> None:
    options: dict[str, Any] = {"classifier": network("regression"), "epochs": 1}
    found = tune(data(), directory=tmp_path, trials=2, objective="val_mae", **options)
    scores = [trial.score for trial in found]
    assert scores == sorted(scores)  # type: ignore[type-var]
    assert scores[0] == min(epoch["val_mae"] for trial in found for epoch in trial.epochs)
    page = (tmp_path / "trials.html").read_text()
    assert "validation mae" in page
    assert "of which less is better" in page
    # It is resumed, and only with the same.
    assert found == tune(data(), directory=tmp_path, trials=2, objective="val_mae", **options)
    with pytest.raises(TuneError, match="objective val_mae there, not set here"):
        tune(data(), directory=tmp_path, trials=2, **options)
    other = {**options, "classifier": network("regression", batch_size=8)}
    with pytest.raises(TuneError, match="batch size 32 there, 8 here"):
        tune(data(), directory=tmp_path, trials=2, objective="val_mae", **other)


def test_without_accuracy_the_loss_is_minimized(tmp_path: Path) -> None:
    found = tune(
        data("batches"), directory=tmp_path, classifier=network("regression"), trials=2, epochs=1
    )
    record = json.loads((tmp_path / "trials.json").read_text())
    assert (record["objective"], record["direction"]) == ("val_loss", "min")
    assert [trial.score for trial in found] == [trial.epochs[0]["val_loss"] for trial in found]


def test_strings(tmp_path: Path) -> None:
    found = tune(
        data("sentences"), directory=tmp_path, classifier=network("words"), trials=1, epochs=1
    )
    assert found[0].score is not None, found[0].error


def test_a_loop_of_its_own_returns_a_number(tmp_path: Path) -> None:
    looped = network("Looped")
    with pytest.raises(SearchFailed, match="it is not known which"):
        tune(data(), directory=tmp_path / "unnamed", classifier=looped, trials=3)
    found = tune(
        data(), directory=tmp_path / "named", classifier=looped, trials=3,
        objective="val_error:min",
    )  # fmt: skip
    scores = [trial.score for trial in found]
    assert scores == sorted(scores)  # type: ignore[type-var]
    assert found[0].hyperparameters["rate"] == 0.1


def test_hyperband_continues_from_weights(tmp_path: Path) -> None:
    found = tune(
        data(), directory=tmp_path, classifier=network("regression"), tuner="hyperband",
        trials=6, epochs=4,
    )  # fmt: skip
    assert {trial.status for trial in found} == {"completed"}
    assert any(trial.continues and trial.first_epoch for trial in found)


def test_a_metric_that_the_training_does_not_give(tmp_path: Path) -> None:
    with pytest.raises(SearchFailed, match="gives no val_auc: it gives loss, mae, val_loss"):
        tune(
            data(), directory=tmp_path, classifier=network("regression"), trials=3,
            objective="val_auc:max",
        )  # fmt: skip


@pytest.mark.parametrize("text", ["", ":max", "val_loss:up", "val_profit", "val_loss:"])
def test_what_is_not_an_objective(text: str, tmp_path: Path) -> None:
    with pytest.raises(TuneError):
        tune(data(), directory=tmp_path, classifier=network("regression"), objective=text)


def test_a_chief_and_a_worker(tmp_path: Path) -> None:
    subject = subject_of(data(), network("Looped"), input_range=None)
    settings = SearchSettings(epochs=1, objective="val_error:min")
    address = f"127.0.0.1:{free_port()}"
    results: list[Any] = []

    def chief() -> None:
        results.append(
            lead(
                subject,
                Role(chief=True, address=address, name="chief"),
                directory=tmp_path,
                settings=settings,
                budget=SearchBudget(trials=3),
                watchdog=60,
            )
        )

    thread = threading.Thread(target=chief)
    thread.start()
    worker = Role(chief=False, address=address, name="one")
    ended = follow(subject, worker, directory=tmp_path, given={}, watchdog=60)
    thread.join()
    assert ended == 3
    assert [trial.status for trial in results[0].trials] == ["completed"] * 3
    # The hyperparameter that only `fit` asks for came from the worker.
    names = {one["config"]["name"] for one in results[0].space}
    assert names == {"bias", "rate"}
    assert results[0].direction == "min"
    assert {trial["worker"] for trial in trials_in(tmp_path)} == {"one"}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("uncompiled", "not compiled"),
        ("nothing", "returns NoneType, not a keras.Model"),
        ("of_other_images", "takes inputs of 32 x 32 x 3, and the images are 28 x 28"),
        ("of_other_classes", "gives 7 numbers, and the images have 10 classes"),
    ],
)
def test_networks_that_do_not_fit(
    name: str, words: str, small_dataset: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(NetworkError, match=words) as caught:
        tune(small_dataset, directory=tmp_path / "search", classifier=network(name))
    assert caught.value.hint
    with pytest.raises(NetworkError, match=words):
        train_own(network(name), small_dataset, directory=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_code_that_fails_is_reported_with_its_place(small_dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(UserCodeError) as caught:
        tune(small_dataset, directory=tmp_path, classifier=network("failing"))
    assert f"{PLACE}:failing failed: ValueError: no such layer" in str(caught.value)
    assert "(own_networks.py, line " in str(caught.value)


def test_data_without_a_network(tmp_path: Path) -> None:
    with pytest.raises(TuneError, match="needs a network"):
        tune(data(), directory=tmp_path)


def test_an_unknown_hyperparameter_is_not_fixed(tmp_path: Path) -> None:
    with pytest.raises(HyperparameterError, match="no hyperparameter unts"):
        tune(data(), directory=tmp_path, classifier=network("regression"), fixed={"unts": 3})
    with pytest.raises(HyperparameterError, match="units is 99, but must be 2 to 16"):
        tune(data(), directory=tmp_path, classifier=network("regression"), fixed={"units": 99})


@pytest.mark.parametrize("name", ["tutorial", "Batched"])
def test_a_run_on_images_goes_all_the_way(
    name: str, small_dataset: Dataset, tmp_path: Path
) -> None:
    run = train_own(network(name), small_dataset, directory=tmp_path / "run", epochs=2, seed=1)
    assert run.model == f"{PLACE}:{name}"
    assert (run.fitted, run.validated, len(run.epochs)) == (2500, 500, 2)
    assert run.inputs is not None
    assert run.inputs["logits"] is (name == "tutorial")
    assert run.inputs["input_range"] == ("0..1" if name == "tutorial" else "0..255")
    found = evaluate(tmp_path / "run", small_dataset)
    assert found.accuracy > 0.15
    manifest = export_run(tmp_path / "run", tmp_path / "candidate", small_dataset, name="mine")
    assert manifest["kind"] == "image_classifier"
    assert manifest["metrics"]["test"]["accuracy"] == found.accuracy
    images = small_dataset.test.images
    exported = SavedModel(tmp_path / "candidate")
    try:
        answers = exported.run("serving_default", {"image": images})["probabilities"]
    finally:
        exported.close()
    targets = small_dataset.test.targets
    _, model = load_run(tmp_path / "run")
    raw = model.predict(images[..., None] / (255 if name == "tutorial" else 1), verbose=0)
    expected = keras.ops.softmax(raw) if name == "tutorial" else raw
    assert (raw.argmax(axis=1) == targets).mean() == pytest.approx(found.accuracy, abs=2e-3)
    np.testing.assert_allclose(answers, expected, atol=2e-5)


def test_two_classes_and_one_unit(small_dataset: Dataset, tmp_path: Path) -> None:
    chosen = small_dataset.train.targets < 2
    two = replace(small_dataset.train, images=small_dataset.train.images[chosen])
    two = replace(two, targets=small_dataset.train.targets[chosen])
    dataset = replace(small_dataset, labels=("top", "trousers"), train=two, test=two)

    def build(hp: keras_tuner.HyperParameters) -> keras.Model:
        del hp
        model = keras.Sequential([keras.Input((28, 28)), keras.layers.Flatten()])
        model.add(keras.layers.Dense(1, activation="sigmoid"))
        model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
        return model

    train_own(OwnNetwork(build), dataset, directory=tmp_path / "run", epochs=2)
    assert evaluate(tmp_path / "run", dataset).accuracy > 0.9


def test_an_interrupted_training_ends_with_the_same_weights(
    tmp_path: Path, small_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"epochs": 3, "hyperparameters": {"kind": "deep", "units": 8}}
    small_dataset = replace(small_dataset, train=small_dataset.train.first(640))
    tutorial = network("tutorial")
    whole = train_own(tutorial, small_dataset, directory=tmp_path / "whole", **options)
    keep = KeepEpochs.on_epoch_end

    def die(self: KeepEpochs, epoch: int, logs: dict[str, Any] | None = None) -> None:
        keep(self, epoch, logs)
        if epoch == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(KeepEpochs, "on_epoch_end", die)
        with pytest.raises(KeyboardInterrupt):
            train_own(tutorial, small_dataset, directory=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()
    for change, words in ((4, "another epochs"), (3, None)):
        again = {**options, "epochs": change}
        if words:
            with pytest.raises(RunError, match=words):
                train_own(tutorial, small_dataset, directory=tmp_path / "run", **again)
            continue
        resumed = train_own(tutorial, small_dataset, directory=tmp_path / "run", **again)
    assert resumed.epochs == whole.epochs
    one, other = (load_run(tmp_path / name)[1].get_weights() for name in ("whole", "run"))
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


def test_an_overridden_fit_resumes_after_its_last_epoch(
    tmp_path: Path, small_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep = KeepEpochs.on_epoch_end

    def die(self: KeepEpochs, epoch: int, logs: dict[str, Any] | None = None) -> None:
        keep(self, epoch, logs)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(KeepEpochs, "on_epoch_end", die)
        with pytest.raises(KeyboardInterrupt):
            train_own(network("Batched"), small_dataset, directory=tmp_path / "run", epochs=2)
    run = train_own(network("Batched"), small_dataset, directory=tmp_path / "run", epochs=2)
    assert len(run.epochs) == 2
    assert run.epochs[1]["loss"] < run.epochs[0]["loss"]


@pytest.mark.parametrize("name", ["table", "batches"])
def test_a_run_on_other_data_is_exported_with_its_signatures(name: str, tmp_path: Path) -> None:
    run = train_own(network("regression"), data(name), directory=tmp_path / "run", epochs=2)
    assert (run.labels, run.inputs) == ([], None)
    with pytest.raises(RunError, match="not trained on images"):
        evaluate(tmp_path / "run", None)  # type: ignore[arg-type]
    done = command("export", tmp_path / "run", "--output", tmp_path / "candidate", "--json")
    assert done.returncode == 0, done.stderr
    manifest = json.loads(done.stdout)
    assert manifest["kind"] == "any"
    assert manifest["metrics"]["validation"]["mae"] == run.epochs[-1]["val_mae"]
    exported = SavedModel(tmp_path / "candidate")
    x = own_networks.table()[0]
    try:
        (taken,) = manifest["signatures"]["serving_default"]["inputs"]
        (answers,) = exported.run("serving_default", {taken: x}).values()
    finally:
        exported.close()
    expected = load_run(tmp_path / "run")[1].predict(x, verbose=0)
    np.testing.assert_allclose(answers, expected, atol=2e-5)


def test_a_loop_that_reports_epochs_is_trained(tmp_path: Path) -> None:
    run = train_own(network("Looped"), data(), directory=tmp_path / "run")
    assert [set(epoch) for epoch in run.epochs] == [{"val_error"}] * 2
    with pytest.raises(RunError, match="gives no val_loss"):
        train_own(network("Looped"), data(), directory=tmp_path / "patient", patience=1)


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("with_lambda", ExportError, "Lambda layer"),
        ("with_an_unsaved_layer", ServableError, "Unsaved"),
        ("untraceable", ServableError, "cannot be called with the inputs"),
    ],
)
def test_what_could_not_be_exported_is_not_trained(
    name: str, error: type[Exception], words: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=words):
        train_own(network(name), data(), directory=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_a_layer_of_its_own_is_named_for_the_export(tmp_path: Path) -> None:
    train_own(network("with_a_layer_of_its_own"), data(), directory=tmp_path / "run", epochs=1)
    done = command(
        "export", tmp_path / "run", "--output", tmp_path / "candidate", "--custom-objects", PLACE
    )
    assert done.returncode == 0, done.stderr


def test_a_subclassed_network_goes_all_the_way(
    tmp_path: Path, small_data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, own = tmp_path / "run", ("--custom-objects", PLACE)
    done = command("train", "--model", f"{PLACE}:subclassed", "--output", run, "--epochs", "1")
    assert done.returncode == 0, done.stderr
    # As in a new process, where nothing has imported the module.
    monkeypatch.delitem(sys.modules, PLACE)
    with patch.dict(keras.saving.get_custom_objects(), clear=True):
        done = command("evaluate", run, *own, "--json")
        assert done.returncode == 0, done.stderr
        accuracy = json.loads(done.stdout)["accuracy"]
        assert accuracy > 0.15
        done = command("compare", run, *own, "--subset", "600", "--method", "linear-svm", "--json")
        assert done.returncode == 0, done.stderr
        done = command("export", run, *own, "--output", tmp_path / "candidate", "--json")
        assert done.returncode == 0, done.stderr
    manifest = json.loads(done.stdout)
    assert (manifest["kind"], manifest["input_range"]) == ("image_classifier", "0..255")
    assert manifest["metrics"]["test"]["accuracy"] == accuracy
    found = evaluate(tmp_path / "candidate", small_data)
    assert found.accuracy == pytest.approx(accuracy, abs=2e-3)


def test_a_subclassed_network_on_other_data_keeps_its_dtypes(tmp_path: Path) -> None:
    run = train_own(network("mixed"), data("prices"), directory=tmp_path / "run", epochs=1)
    assert run.dtypes == {"codes": "int32"}
    done = command(
        "export", tmp_path / "run", "--output", tmp_path / "candidate", "--custom-objects", PLACE,
        "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    taken = json.loads(done.stdout)["signatures"]["serving_default"]["inputs"]
    assert {name: one["dtype"] for name, one in taken.items()} == {
        "codes": "DT_INT32", "sizes": "DT_FLOAT"
    }  # fmt: skip
    inputs = own_networks.prices()[0]
    exported = SavedModel(tmp_path / "candidate")
    try:
        answers = exported.run("serving_default", inputs)["price"]
    finally:
        exported.close()
    expected = load_run(tmp_path / "run")[1].predict(inputs, verbose=0)["price"]
    np.testing.assert_allclose(answers, expected, atol=2e-5)


def test_the_commands(tmp_path: Path, small_data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    del small_data
    own = ("--model", f"{PLACE}:regression", "--data-from", f"{PLACE}:table")
    done = command(
        "tune", *own, "--output", tmp_path / "search", "--trials", "2", "--epochs", "1",
        "--objective", "val_mae:min", "--batch-size", "40",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "validation mae" in done.stdout
    assert f"servable train {' '.join(own)} --batch-size 40 --hyperparameters" in done.stderr
    trials = tmp_path / "search" / "trials.json"
    done = command(
        "train", *own, "--output", tmp_path / "run", "--epochs", "1", "--hyperparameters", trials
    )
    assert done.returncode == 0, done.stderr
    assert f"next: servable export {tmp_path / 'run'}" in done.stderr
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.py").write_text("import nowhere_to_be_found\n")
    done = command("train", "--model", "broken:build", "--output", tmp_path / "other")
    assert done.returncode == 1
    assert "broken:build cannot be imported: ModuleNotFoundError" in done.stderr


@pytest.mark.parametrize(
    "found",
    [
        None, 3, (), (np.zeros(3),), np.zeros([3, 2]), [np.zeros(3), np.zeros(3)],
        (np.zeros([3, 2]), np.zeros(4)), (np.zeros([0, 2]), np.zeros(0)), (None, np.zeros(3)),
        ((np.zeros(3), np.zeros(3)), np.zeros(3)), iter([(np.zeros(3), np.zeros(3))]),
    ],
)  # fmt: skip
def test_what_is_not_data(found: Any) -> None:
    with pytest.raises(DatasetError) as caught:
        as_own_data(found, "mine:load")
    assert "mine:load" in str(caught.value)
    assert caught.value.hint
