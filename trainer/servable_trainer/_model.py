"""The network, and the space that a search walks through."""

from __future__ import annotations

from typing import Any

import keras
import keras_tuner
from keras import layers


class ImageClassifier(keras_tuner.HyperModel):  # type: ignore[misc]
    """A convolutional classifier of grey pictures.

    Blocks of convolution, max pooling, batch normalization, ReLU and dropout, each with
    twice the filters of the one before, then one dense layer and a softmax. Pooling comes
    first in a block: it commutes with ReLU, and what follows has a quarter of the work.

    Args:
        size: Height and width of a picture.
        classes: How many classes there are.
    """

    def __init__(self, *, size: tuple[int, int], classes: int) -> None:
        super().__init__(name="image_classifier")
        self.size = size
        self.classes = classes

    def build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        """Build and compile: uint8 [N, height, width] to probabilities float32 [N, classes]."""
        dropout = hp.Float("dropout", 0.1, 0.4, step=0.1)
        kernel = hp.Choice("kernel_size", [3, 5])
        filters = hp.Choice("filters", [16, 24, 32])

        image = keras.Input(self.size, dtype="uint8", name="image")
        x = layers.Reshape((*self.size, 1))(image)
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
            *args, batch_size=hp.Choice("batch_size", [64, 128]), **{"verbose": 0, **kwargs}
        )


def hyperparameters_from(values: dict[str, Any]) -> keras_tuner.HyperParameters:
    """Hyperparameters that hold `values`; what is not among them takes its default."""
    hp = keras_tuner.HyperParameters()
    hp.values = dict(values)
    return hp


def plain(values: dict[str, Any]) -> dict[str, Any]:
    """Hyperparameter values that JSON can hold: a tuner may give numpy's scalars."""
    return {k: v.item() if hasattr(v, "item") else v for k, v in values.items()}
