"""The network, and the space that a search walks through."""

from __future__ import annotations

from typing import Any

import keras
import keras_tuner
from keras import layers

from servable_client import ServableError

BATCH_SIZES = [64, 128]


class ImageClassifier(keras_tuner.HyperModel):  # type: ignore[misc]
    """A convolutional classifier of pictures.

    Blocks of convolution, max pooling, batch normalization, ReLU and dropout, each with
    twice the filters of the one before, then one dense layer and a softmax. Pooling comes
    first in a block: it commutes with ReLU, and what follows has a quarter of the work.

    Args:
        size: Height and width of a picture, and 3 where it is in colour.
        classes: How many classes there are.
    """

    def __init__(self, *, size: tuple[int, ...], classes: int) -> None:
        super().__init__(name="image_classifier")
        self.size = size
        self.classes = classes

    def build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        """Build and compile: uint8 [N, *size] to probabilities float32 [N, classes]."""
        dropout = hp.Float("dropout", 0.1, 0.4, step=0.1)
        kernel = hp.Choice("kernel_size", [3, 5])
        filters = hp.Choice("filters", [16, 24, 32])

        image = keras.Input(self.size, dtype="uint8", name="image")
        x = layers.Reshape((*self.size, 1)[:3])(image)
        x = layers.Rescaling(1 / 255)(x)
        for block in range(hp.Int("blocks", 2, 3)):
            x = layers.Conv2D(filters << block, kernel, padding="same", use_bias=False)(x)
            x = layers.MaxPooling2D()(x)
            # Keras' 0.99 takes some 500 batches to forget where it began: after a trial's hundred
            # the validation would show that and not the network.
            x = layers.BatchNormalization(momentum=0.9)(x)
            x = layers.ReLU()(x)
            x = layers.Dropout(dropout)(x)
        x = layers.Flatten()(x)
        x = layers.Dense(hp.Choice("dense_units", [64, 128]), activation="relu")(x)
        x = layers.Dropout(dropout)(x)
        probabilities = layers.Dense(self.classes, activation="softmax", name="probabilities")(x)

        model = keras.Model(image, probabilities, name=self.name)
        model.compile(
            optimizer=keras.optimizers.Adam(hp.Float("learning_rate", 5e-4, 4e-3, sampling="log")),
            loss="sparse_categorical_crossentropy",
            metrics=["accuracy"],
            jit_compile=False,  # XLA doubles the time on a CPU
        )
        return model

    def fit(
        self, hp: keras_tuner.HyperParameters, model: keras.Model, *args: Any, **kwargs: Any
    ) -> keras.callbacks.History:
        """Fit with the batch size of the hyperparameters; the rest is `keras.Model.fit`'s."""
        return model.fit(
            *args, batch_size=hp.Choice("batch_size", BATCH_SIZES), **{"verbose": 0, **kwargs}
        )


class HyperparameterError(ServableError):
    """Hyperparameters are not of the space."""


def hyperparameters_from(
    values: dict[str, Any], classifier: ImageClassifier
) -> keras_tuner.HyperParameters:
    """Hyperparameters that hold `values`; what is not among them takes its default.

    Raises:
        HyperparameterError: One is unknown, or outside its range.
    """
    space = keras_tuner.HyperParameters()
    classifier.build(space)
    space.Choice("batch_size", BATCH_SIZES)
    known = {one.name: one for one in space.space}
    for name, value in values.items():
        if name not in known:
            raise HyperparameterError(
                f"there is no hyperparameter {name!r}", hint=f"there are {', '.join(sorted(known))}"
            )
        one = known[name]
        allowed = (
            str(one.values)
            if isinstance(one, keras_tuner.engine.hyperparameters.Choice)
            else f"{one.min_value} to {one.max_value}"
        )
        if isinstance(value, bool) or not _fits(value, one):
            raise HyperparameterError(f"{name} is {value!r}, and must be {allowed}")
    hp = keras_tuner.HyperParameters()
    hp.values = dict(values)
    return hp


def _fits(value: object, one: Any) -> bool:
    if isinstance(one, keras_tuner.engine.hyperparameters.Choice):
        return value in one.values
    kinds = int if isinstance(one, keras_tuner.engine.hyperparameters.Int) else (int, float)
    return isinstance(value, kinds) and one.min_value <= value <= one.max_value


def plain(values: dict[str, Any]) -> dict[str, Any]:
    """Hyperparameter values that JSON can hold: a tuner may give numpy's scalars."""
    return {k: v.item() if hasattr(v, "item") else v for k, v in values.items()}
