"""A search so small that tests can afford many."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import keras

from servable_trainer.networks.classifier import ImageClassifier

if TYPE_CHECKING:
    from pathlib import Path

    import keras_tuner

    from servable_trainer.networks.optimizer import Training

# The smallest network of the real space.
SMALLEST = {
    "kind": "plain", "stages": 1, "width": 8, "blocks": 1, "kernel_size": 3, "dense_units": 0,
    "optimizer": "adamw", "batch_size": 256, "mixup": 0.0, "erasing": 0.0, "cutout": 0.0,
    "flip": False, "shift": 0,
}  # fmt: skip


class Tiny(ImageClassifier):
    """One dense layer, which is not compiled: that takes longer than it learns."""

    def network(self, hp: keras_tuner.HyperParameters, *, learning: bool = False) -> keras.Model:
        del learning
        image = keras.Input(self.size, dtype="uint8")
        x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(image))
        x = keras.layers.Dense(hp.Int("units", 4, 64), activation="relu")(x)
        return keras.Model(image, keras.layers.Dense(self.classes, activation="softmax")(x))

    def compile(self, model: keras.Model, training: Training, *, steps: int) -> None:
        del steps
        model.compile(
            optimizer=keras.optimizers.Adam(training.learning_rate),
            loss="categorical_crossentropy",
            metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
            run_eagerly=True,
        )


class Endless(Tiny):
    """One whose first trials end, and the next one never."""

    def __init__(self, *, ending: int) -> None:
        super().__init__(size=(28, 28), classes=10)
        self.ending = ending

    def fit(self, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        self.ending -= 1
        if self.ending < 0:
            kwargs["epochs"] = 1_000_000
        return super().fit(*args, **kwargs)


class Impossible(Tiny):
    """A family of networks without a member."""

    def build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        raise ValueError(f"no network has {hp.get('units')} units")


class Odd(Tiny):
    """One whose trials fail, now and then."""

    def build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        if hp.get("units") % 2:
            raise ValueError("an odd number of units")
        return super().build(hp)


def trials_in(folder: Path) -> list[dict[str, Any]]:
    found: dict[str, Any] = json.loads((folder / "trials.json").read_text())
    assert found["format"] == 2
    trials: list[dict[str, Any]] = found["trials"]
    names = [trial["name"] for trial in trials]
    assert len(set(names)) == len(names)
    return trials


def fixed() -> list[str]:
    return [part for name, v in SMALLEST.items() for part in ("--fix", f"{name}={json.dumps(v)}")]
