"""Keras files that would import or run something."""

from __future__ import annotations

import json
import zipfile
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import pytest
from keras import layers

from servable_serving.exporter.errors import ExportError
from servable_serving.exporter.keras_file import load_keras

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@keras.saving.register_keras_serializable(package="of_the_tests")
def doubled(x: Any) -> Any:
    return 2 * x


@keras.saving.register_keras_serializable(package="of_the_tests")
class Scaled(layers.Layer):
    def call(self, x: Any) -> Any:
        return x / 255


@pytest.fixture
def path(tmp_path: Path) -> Path:
    model = keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(2)])
    model.compile("adam", "mse")
    path = tmp_path / "model.keras"
    model.save(path)
    return path


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the configuration in a .keras file."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    change(config)
    members["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def dense(config: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = config["config"]["layers"][2]
    assert found["class_name"] == "Dense"
    return found


def call(module: str, name: str, **config: Any) -> dict[str, Any]:
    return {"module": module, "class_name": name, "config": config, "registered_name": name}


@pytest.mark.parametrize(
    "entry",
    [
        call("os", "system", command="false"),
        call("subprocess", "run", args=["false"]),
        call("builtins", "eval", source="1"),
        call("keras.utils", "get_file", fname="f", origin="http://127.0.0.1:9/f"),
        call("keras.src.utils.file_utils", "get_file", fname="f", origin="http://127.0.0.1:9/f"),
        call("keras.saving", "load_model", filepath="other.keras"),
        call("keras.config", "enable_unsafe_deserialization"),
        call("numpy", "load", file="f"),
        {
            "module": "builtins",
            "class_name": "function",
            "config": "system",
            "registered_name": "f",
        },
        {"class_name": "__lambda__", "config": {"value": "4wAAAA"}},
    ],
)
@pytest.mark.parametrize("place", ["layer", "activation", "initializer"])
def test_a_file_cannot_name_what_is_imported(
    path: Path, entry: dict[str, Any], place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change(config: dict[str, Any]) -> None:
        if place == "layer":
            dense(config).clear()
            config["config"]["layers"][2].update(entry)
        else:
            key = {"activation": "activation", "initializer": "kernel_initializer"}[place]
            dense(config)["config"][key] = entry

    edit(path, change)
    monkeypatch.setattr(keras.saving, "load_model", lambda *_, **__: pytest.fail("it was loaded"))
    with pytest.raises(ExportError) as caught:
        load_keras(path)
    assert "--custom-objects" in (caught.value.hint or "")


def test_what_only_training_needs_is_not_looked_at(path: Path) -> None:
    def change(config: dict[str, Any]) -> None:
        config["compile_config"]["loss"] = call("my_losses", "MyLoss")

    edit(path, change)
    assert load_keras(path).count_params() == 64 * 2 + 2


def nested(path: Path) -> Path:
    """A file with a model within the model, which was compiled too."""
    inner = keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten()])
    inner.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.1, 10)), "mse", ["accuracy"]
    )
    inputs = keras.Input((8, 8, 1))
    keras.Model(inputs, layers.Dense(2)(inner(inputs))).save(path)
    return path


def test_a_compiled_model_within_the_model_is_loaded(tmp_path: Path) -> None:
    assert load_keras(nested(tmp_path / "model.keras")).output_shape == (None, 2)


def test_what_training_needs_within_the_model_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keras compiles a model within the model even if it is told not to compile."""
    path = nested(tmp_path / "model.keras")

    def change(config: dict[str, Any]) -> None:
        (inner,) = (one for one in config["config"]["layers"] if one["class_name"] == "Sequential")
        inner["compile_config"]["loss"] = call("os", "system", command="false")

    edit(path, change)
    monkeypatch.setattr(keras.saving, "load_model", lambda *_, **__: pytest.fail("it was loaded"))
    with pytest.raises(ExportError, match="system"):
        load_keras(path)


def test_registered_classes_and_functions_are_known(tmp_path: Path) -> None:
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), Scaled(), layers.Flatten(), layers.Dense(2, activation=doubled)]
    )
    model.save(tmp_path / "model.keras")
    loaded = load_keras(tmp_path / "model.keras")
    x = np.random.default_rng(0).random([2, 8, 8, 1], np.float32)
    np.testing.assert_allclose(loaded(x), model(x), rtol=1e-6)


def test_a_module_with_custom_objects_is_found_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "layers_of_mine.py").write_text(
        "import keras\n\nclass Tripled(keras.layers.Layer):\n"
        "    def call(self, x):\n        return 3 * x\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    from importlib import import_module

    tripled = import_module("layers_of_mine").Tripled
    model = keras.Sequential([keras.Input((3,)), tripled(), layers.Dense(1)])
    model.save(tmp_path / "model.keras")
    with pytest.raises(ExportError, match="Tripled"):
        load_keras(tmp_path / "model.keras")
    for name in ("layers_of_mine", "layers_of_mine.py"):
        loaded = load_keras(tmp_path / "model.keras", custom_objects=name)
        x = np.ones([2, 3], np.float32)
        np.testing.assert_allclose(loaded(x), model(x), rtol=1e-6)
    (tmp_path / "broken_module.py").write_text("1 / 0\n")
    for name in ("broken_module", "nosuch_module"):
        with pytest.raises(ExportError, match=name):
            load_keras(tmp_path / "model.keras", custom_objects=name)


@pytest.mark.parametrize(
    "layer",
    [
        lambda: layers.Dense(2, kernel_regularizer="l2", kernel_constraint="max_norm"),
        lambda: layers.Dense(2, kernel_initializer=keras.initializers.HeNormal(seed=1)),
        lambda: layers.Dense(2, activation=keras.activations.gelu),
        lambda: layers.Dense(2, dtype="mixed_bfloat16"),
        layers.PReLU,
        lambda: layers.MultiHeadAttention(1, 2),
        lambda: layers.Bidirectional(layers.LSTM(2)),
        lambda: layers.RNN([layers.LSTMCell(2), layers.GRUCell(2)]),
        lambda: layers.TimeDistributed(layers.Dense(2)),
        lambda: layers.SpectralNormalization(layers.Dense(2)),
        lambda: layers.Discretization(bin_boundaries=[0.0, 1.0]),
        lambda: layers.RandomRotation(0.1),
    ],
)
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_keras_own_layers_are_known(layer: Callable[[], Any], suffix: str, tmp_path: Path) -> None:
    made = layer()
    shape = (8, 8, 1) if isinstance(made, layers.RandomRotation) else (4, 3)
    inputs = keras.Input(shape)
    outputs = made(inputs, inputs) if isinstance(made, layers.MultiHeadAttention) else made(inputs)
    keras.Model(inputs, outputs).save(tmp_path / f"model{suffix}")
    assert load_keras(tmp_path / f"model{suffix}").output_shape == tuple(outputs.shape)


def test_operations_are_known(tmp_path: Path) -> None:
    inputs = keras.Input((4,))
    outputs = keras.ops.softmax(keras.ops.concatenate([inputs * 2 - 1, inputs / 3], axis=-1))
    keras.Model(inputs, outputs).save(tmp_path / "model.keras")
    assert load_keras(tmp_path / "model.keras").output_shape == (None, 8)
