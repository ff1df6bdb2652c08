"""Networks and data that a user brings, as KerasTuner's guides write them.

Without XLA, which takes longer to compile than they take to learn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import keras_tuner
import numpy as np
import tensorflow as tf

if TYPE_CHECKING:
    from numpy.typing import NDArray


def tutorial(hp: keras_tuner.HyperParameters) -> keras.Model:
    """Grey images with a channel, class numbers, logits; a hyperparameter under a condition."""
    model = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten()])
    kind = hp.Choice("kind", ["flat", "deep"])
    if kind == "deep":
        with hp.conditional_scope("kind", ["deep"]):
            units = hp.Int("units", 4, 32)
        model.add(keras.layers.Dense(units, activation="relu"))
        model.add(keras.layers.Dropout(0.2))
    model.add(keras.layers.Dense(10))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"], jit_compile=False)
    return model


class Batched(keras_tuner.HyperModel):
    """Scales pixels itself, takes one-hot targets; `fit` asks for a hyperparameter."""

    def build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        model = keras.Sequential(
            [
                keras.layers.Rescaling(1 / 255),
                keras.layers.Flatten(),
                keras.layers.Dense(hp.Int("units", 4, 16), activation="relu"),
                keras.layers.Dense(10, activation="softmax"),
            ]
        )
        model.compile("adam", "categorical_crossentropy", metrics=["accuracy"], jit_compile=False)
        return model

    def fit(
        self, hp: keras_tuner.HyperParameters, model: keras.Model, *args: Any, **kwargs: Any
    ) -> Any:
        return model.fit(*args, batch_size=hp.Choice("batch", [50, 100]), **kwargs)


class Looped(keras_tuner.HyperModel):
    """A training loop of its own, as in KerasTuner's guide; `fit` returns a number."""

    def build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        return keras.Sequential(
            [keras.Input((3,)), keras.layers.Dense(1, use_bias=hp.Boolean("bias"))]
        )

    def fit(
        self,
        hp: keras_tuner.HyperParameters,
        model: keras.Model,
        x: NDArray[Any],
        y: NDArray[Any],
        validation_data: tuple[Any, Any],
        callbacks: list[keras.callbacks.Callback],
        **kwargs: Any,
    ) -> float:
        del kwargs
        optimizer = keras.optimizers.SGD(hp.Choice("rate", [0.1, 0.01]))
        for callback in callbacks:
            callback.set_model(model)
        best = float("inf")
        for epoch in range(2):
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((model(x) - y) ** 2)
            weights = model.trainable_variables
            optimizer.apply(tape.gradient(loss, weights), weights)
            inputs, targets = validation_data
            error = float(tf.reduce_mean(tf.abs(model(inputs) - targets)))
            best = min(best, error)
            for callback in callbacks:
                callback.on_epoch_end(epoch, logs={"val_error": error})
        return best


def regression(hp: keras_tuner.HyperParameters) -> keras.Model:
    model = keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(hp.Int("units", 2, 16), activation="relu"),
            keras.layers.Dense(1),
        ]
    )
    model.compile("adam", "mse", metrics=["mae"], jit_compile=False)
    return model


def words(hp: keras_tuner.HyperParameters) -> keras.Model:
    """Strings, in a table of the model."""
    text = keras.Input((1,), dtype="string", name="text")
    vectorize = keras.layers.TextVectorization(vocabulary=["good", "bad"], output_sequence_length=4)
    x = keras.layers.Embedding(4, hp.Int("size", 2, 8))(vectorize(text))
    x = keras.layers.GlobalAveragePooling1D()(x)
    model = keras.Model(text, keras.layers.Dense(1, activation="sigmoid")(x))
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"], jit_compile=False)
    return model


def table() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    x = np.random.default_rng(0).normal(size=(120, 3)).astype(np.float32)
    return x, x.sum(axis=1, keepdims=True)


def batches() -> tuple[tf.data.Dataset, tf.data.Dataset]:
    whole = tf.data.Dataset.from_tensor_slices(table())
    return whole.skip(20).batch(10), whole.take(20).batch(10)


def sentences() -> tuple[NDArray[np.str_], NDArray[np.int64]]:
    x = np.array([["so good"], ["so bad"]] * 40)
    return x, np.array([1, 0] * 40)


def uncompiled(hp: keras_tuner.HyperParameters) -> keras.Model:
    del hp
    return keras.Sequential([keras.Input((28, 28)), keras.layers.Flatten(), keras.layers.Dense(10)])


def nothing(hp: keras_tuner.HyperParameters) -> None:
    del hp


def failing(hp: keras_tuner.HyperParameters) -> keras.Model:
    del hp
    raise ValueError("no such layer")


def of_other_images(hp: keras_tuner.HyperParameters) -> keras.Model:
    del hp
    model = keras.Sequential(
        [keras.Input((32, 32, 3)), keras.layers.Flatten(), keras.layers.Dense(10)]
    )
    model.compile("adam", "mse", jit_compile=False)
    return model


def of_other_classes(hp: keras_tuner.HyperParameters) -> keras.Model:
    del hp
    model = keras.Sequential([keras.Input((28, 28)), keras.layers.Flatten(), keras.layers.Dense(7)])
    model.compile("adam", "mse", jit_compile=False)
    return model


def with_lambda(hp: keras_tuner.HyperParameters) -> keras.Model:
    del hp
    layers = keras.layers
    model = keras.Sequential([keras.Input((3,)), layers.Lambda(lambda x: x * 2), layers.Dense(1)])
    model.compile("adam", "mse", jit_compile=False)
    return model


class Unsaved(keras.layers.Layer):
    """A layer that forgot its get_config."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def call(self, x: Any) -> Any:
        return x * self.factor


def with_an_unsaved_layer(hp: keras_tuner.HyperParameters) -> keras.Model:
    del hp
    model = keras.Sequential([keras.Input((3,)), Unsaved(2.0), keras.layers.Dense(1)])
    model.compile("adam", "mse", jit_compile=False)
    return model


@keras.saving.register_keras_serializable("mine")
class Doubled(keras.layers.Layer):
    """A layer of one's own that can be saved."""

    def call(self, x: Any) -> Any:
        return x * 2


def with_a_layer_of_its_own(hp: keras_tuner.HyperParameters) -> keras.Model:
    del hp
    model = keras.Sequential([keras.Input((3,)), Doubled(), keras.layers.Dense(1)])
    model.compile("adam", "mse", jit_compile=False)
    return model


@keras.saving.register_keras_serializable("mine")
class Subclassed(keras.Model):
    """A model that does not know what it takes before it is called."""

    def __init__(self, units: int, classes: int = 10, **options: Any) -> None:
        super().__init__(**options)
        self.units, self.classes = units, classes
        # Declared before what it follows: the order of attributes says nothing.
        self.last = keras.layers.Dense(classes, activation="softmax")
        self.scale = keras.layers.Rescaling(1 / 255)
        self.flat = keras.layers.Flatten()
        self.hidden = keras.layers.Dense(units, activation="relu")

    def call(self, x: Any) -> Any:
        return self.last(self.hidden(self.flat(self.scale(x))))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units, "classes": self.classes}


def subclassed(hp: keras_tuner.HyperParameters) -> keras.Model:
    model = Subclassed(hp.Int("units", 4, 16))
    loss = "sparse_categorical_crossentropy"
    model.compile("adam", loss, metrics=["accuracy"], jit_compile=False)
    return model


@keras.saving.register_keras_serializable("mine")
class Mixed(keras.Model):
    """Numbers of classes and numbers, by name, to one number by name."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.codes = keras.layers.Embedding(50, 3)
        self.last = keras.layers.Dense(1)

    def call(self, inputs: dict[str, Any]) -> dict[str, Any]:
        codes = keras.ops.mean(self.codes(inputs["codes"]), axis=1)
        return {"price": self.last(keras.ops.concatenate([codes, inputs["sizes"]], axis=1))}


def mixed(hp: keras_tuner.HyperParameters) -> keras.Model:
    del hp
    model = Mixed()
    model.compile("adam", "mse", jit_compile=False)
    return model


def prices() -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
    random = np.random.default_rng(0)
    codes = random.integers(0, 50, [120, 4]).astype(np.int32)
    sizes = random.normal(size=[120, 2]).astype(np.float32)
    return {"codes": codes, "sizes": sizes}, {"price": sizes.sum(axis=1, keepdims=True)}


@keras.saving.register_keras_serializable("mine")
class Untraceable(keras.Model):
    """Leaves Keras' graph: it runs in eager mode alone."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.last = keras.layers.Dense(1)

    def call(self, x: Any) -> Any:
        return self.last(np.asarray(x))


def untraceable(hp: keras_tuner.HyperParameters) -> keras.Model:
    del hp
    model = Untraceable()
    model.compile("adam", "mse", run_eagerly=True)
    return model
