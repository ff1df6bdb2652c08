"""A search that KerasTuner itself ran: its best network is exported."""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING, Any

import keras
import keras_tuner
import numpy as np
import pytest
from tests.forked import servable

from servable_serving.core.errors import UserCodeError
from servable_serving.model.saved_model import SavedModel
from servable_trainer.networks.own_network import OwnNetwork
from servable_trainer.tuning.foreign_project import best_model, best_trial
from servable_trainer.tuning.trials import TuneError

if TYPE_CHECKING:
    from pathlib import Path

MODULE = """
import keras
import keras_tuner

def build(hp):
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(hp.Int("units", 2, 8), activation="relu"),
            keras.layers.Dense(2, activation="softmax"),
        ]
    )
    model.compile(hp.Choice("optimizer", ["sgd", "adam"]), "sparse_categorical_crossentropy",
                  metrics=["accuracy"])
    return model

class Searched(keras_tuner.HyperModel):
    def build(self, hp):
        return build(hp)

searched = Searched()
number = 3
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with the module of a search, and its project."""
    folder = tmp_path_factory.mktemp("search")
    (folder / "my_search.py").write_text(MODULE)
    scope: dict[str, Any] = {}
    exec(MODULE, scope)
    random = np.random.default_rng(0)
    x = random.random([64, 8, 8, 1], np.float32)
    y = (x.mean(axis=(1, 2, 3)) > 0.5).astype(np.int64)
    tuner = keras_tuner.RandomSearch(
        scope["build"],
        objective="val_accuracy",
        max_trials=3,
        seed=0,
        directory=folder,
        project_name="project",
    )
    tuner.search(x, y, validation_data=(x, y), epochs=2, verbose=0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Skipping variable loading for optimizer")
        best = tuner.get_best_models()[0]
    np.savez(folder / "expected.npz", x=x[:4], y=best.predict(x[:4], verbose=0))
    (folder / "best.json").write_text(json.dumps(tuner.get_best_hyperparameters()[0].values))
    return folder


def test_its_best_trial_is_kerastuners(folder: Path) -> None:
    trial = best_trial(folder / "project")
    assert trial.objective == "val_accuracy"
    assert trial.hyperparameters == json.loads((folder / "best.json").read_text())


def test_the_command_exports_its_best_network(folder: Path, tmp_path: Path) -> None:
    done = servable(
        "export", "--tuner", "project", "--model", "my_search:build", "--input-range", "0..1",
        "--output", tmp_path / "candidate", "--name", "halves", "--json", cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    manifest = json.loads(done.stdout)
    assert manifest["hyperparameters"] == json.loads((folder / "best.json").read_text())
    assert 0 < manifest["metrics"]["tuning"]["val_accuracy"] <= 1
    model, _ = best_model(folder / "project", _built(folder))
    pixels = np.random.default_rng(0).integers(0, 256, [4, 8, 8], np.uint8)
    exported = SavedModel(tmp_path / "candidate")
    try:
        answer = exported.run("serving_default", {"image": pixels})["probabilities"]
    finally:
        exported.close()
    expected = model.predict(pixels[..., None] / 255, verbose=0)
    np.testing.assert_allclose(answer, expected, atol=2e-5)


def _built(folder: Path) -> Any:
    scope: dict[str, Any] = {}
    exec((folder / "my_search.py").read_text(), scope)
    return scope["build"]


def test_the_weights_are_those_of_the_best_epoch(folder: Path) -> None:
    model, _ = best_model(folder / "project", _built(folder))
    with np.load(folder / "expected.npz") as expected:
        found = model.predict(expected["x"], verbose=0)
        np.testing.assert_allclose(found, expected["y"], atol=1e-6)


@pytest.mark.parametrize("name", ["build", "Searched", "searched"])
def test_a_function_or_a_hyper_model_may_be_named(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    build = OwnNetwork.named(f"my_search:{name}").build
    assert isinstance(build(keras_tuner.HyperParameters()), keras.Model)


@pytest.mark.parametrize(
    "place", ["my_search", "nosuch:build", "my_search:nosuch", "my_search:number", ":build"]
)
def test_what_is_no_such_function_is_refused(
    folder: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    with pytest.raises(UserCodeError):
        OwnNetwork.named(place)


def test_what_is_no_project_is_refused(folder: Path, tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere", folder):
        with pytest.raises(TuneError) as caught:
            best_trial(path)
        assert caught.value.hint
    (tmp_path / "trial_0").mkdir()
    (tmp_path / "trial_0" / "trial.json").write_text("{")
    with pytest.raises(TuneError):
        best_trial(tmp_path)


def test_weights_of_another_network_are_refused(folder: Path) -> None:
    def other(hp: keras_tuner.HyperParameters) -> keras.Model:
        del hp
        return keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])

    with pytest.raises(TuneError) as caught:
        best_model(folder / "project", other)
    assert "--model" in (caught.value.hint or "")
