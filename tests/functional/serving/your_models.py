"""Models as people bring them: a file or a folder, and what Keras or TensorFlow answer to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

_RANDOM = np.random.default_rng(0)
GREY = _RANDOM.integers(0, 256, [4, 28, 28], np.uint8)
COLOUR = _RANDOM.integers(0, 256, [4, 32, 32, 3], np.uint8)
WORDS = ("red", "green")


@dataclass(frozen=True, kw_only=True)
class Brought:
    """A model on disk.

    Attributes:
        path: A Keras file, or the folder of a SavedModel.
        inputs: A request to the exported model's default signature.
        outputs: What the model itself answers to the same.
        options: What `export` must be told.
    """

    path: Path
    inputs: dict[str, NDArray[Any]]
    outputs: dict[str, NDArray[Any]]
    options: dict[str, Any] = field(default_factory=dict)


def _saved(model: Any, path: Path) -> Path:
    model.save(path)
    return path


def _classifier(
    model: Any,
    path: Path,
    images: NDArray[np.uint8],
    inputs: NDArray[Any],
    finish: Callable[[NDArray[Any]], NDArray[Any]] = np.asarray,
    **options: Any,
) -> Brought:
    answers = np.asarray(model.predict(inputs, verbose=0), np.float32)
    return Brought(
        path=path,
        inputs={"image": images},
        outputs={"probabilities": finish(answers)},
        options=options,
    )


def _cnn() -> Any:
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(8, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dropout(0.2),
            layers.Dense(10, activation="softmax"),
        ]
    )


def cnn(folder: Path) -> Brought:
    """The tutorial's: grey, divided by 255 in the notebook."""
    model = _cnn()
    path = _saved(model, folder / "cnn.keras")
    return _classifier(model, path, GREY, GREY[..., None] / 255, input_range="0..1")


def legacy_h5(folder: Path) -> Brought:
    model = _cnn()
    path = _saved(model, folder / "cnn.h5")
    return _classifier(model, path, GREY, GREY[..., None] / 255, input_range="0..1")


def exported_folder(folder: Path) -> Brought:
    """What `model.export` writes, without Keras' layers."""
    model = _cnn()
    model.export(str(folder / "cnn"), verbose=False)
    return _classifier(model, folder / "cnn", GREY, GREY[..., None] / 255, input_range="0..1")


def logits(folder: Path) -> Brought:
    model = keras.Sequential(
        [keras.Input((28, 28)), layers.Flatten(), layers.Dense(16, "relu"), layers.Dense(10)]
    )
    path = _saved(model, folder / "logits.keras")
    softmax = lambda answers: tf.nn.softmax(answers).numpy()  # noqa: E731
    return _classifier(model, path, GREY, GREY / 255, softmax, input_range="0..1", logits=True)


def binary(folder: Path) -> Brought:
    """A single sigmoid unit, in colour, trained on -1 to 1."""
    model = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            layers.Conv2D(8, 3, use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.GlobalAveragePooling2D(),
            layers.Dense(1, activation="sigmoid"),
        ]
    )
    path = _saved(model, folder / "binary.keras")
    both = lambda answers: np.concatenate([1 - answers, answers], axis=1)  # noqa: E731
    options: dict[str, Any] = {"input_range": "-1..1", "labels": ["cat", "dog"]}
    return _classifier(model, path, COLOUR, COLOUR / 127.5 - 1, both, **options)


def multi_label(folder: Path) -> Brought:
    """Several sigmoids, of images of any size, which it scales itself."""
    model = keras.Sequential(
        [
            keras.Input((None, None, 3)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(8, 3),
            layers.GlobalMaxPooling2D(),
            layers.Dense(5, activation="sigmoid"),
        ]
    )
    path = _saved(model, folder / "multi.keras")
    options: dict[str, Any] = {"multi_label": True, "size": (32, 32)}
    return _classifier(model, path, COLOUR, COLOUR.astype(np.float32), **options)


def mobile_net(folder: Path) -> Brought:
    model = keras.applications.MobileNetV3Small(
        weights=None, input_shape=(32, 32, 3), classes=7, minimalistic=True
    )
    path = _saved(model, folder / "mobile_net.keras")
    return _classifier(model, path, COLOUR, COLOUR.astype(np.float32))


def efficient_net(folder: Path) -> Brought:
    model = keras.applications.EfficientNetB0(weights=None, input_shape=(32, 32, 3), classes=7)
    path = _saved(model, folder / "efficient_net.keras")
    return _classifier(model, path, COLOUR, COLOUR.astype(np.float32))


def mixed_bfloat16(folder: Path) -> Brought:
    policy = keras.dtype_policies.DTypePolicy("mixed_bfloat16")
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(8, 3, activation="relu", dtype=policy),
            layers.BatchNormalization(dtype=policy),
            layers.Flatten(dtype=policy),
            layers.Dense(10, dtype=policy),
            layers.Activation("softmax", dtype="float32"),
        ]
    )
    path = _saved(model, folder / "mixed.keras")
    return _classifier(model, path, GREY, GREY[..., None] / 255, input_range="0..1")


def two_and_two(folder: Path) -> Brought:
    """Functional, with two inputs and two outputs by name."""
    age, income = keras.Input((4,), name="age"), keras.Input((3,), name="income")
    hidden = layers.Dense(8)(layers.Concatenate()([age, income]))
    heads = [layers.Dense(2, name="risk")(hidden), layers.Dense(1, name="price")(hidden)]
    model = keras.Model([age, income], heads)
    random = np.random.default_rng(1)
    inputs = {"age": random.random([3, 4], np.float32), "income": random.random([3, 3], np.float32)}
    risk, price = model.predict(list(inputs.values()), verbose=0)
    path = _saved(model, folder / "two.keras")
    return Brought(path=path, inputs=inputs, outputs={"risk": risk, "price": price})


def text(folder: Path) -> Brought:
    vectorize = layers.TextVectorization(max_tokens=100, output_sequence_length=6)
    vectorize.adapt(["a good film", "a bad film indeed"])
    model = keras.Sequential(
        [
            keras.Input((1,), dtype="string"),
            vectorize,
            layers.Embedding(100, 4),
            layers.GlobalAveragePooling1D(),
            layers.Dense(1, activation="sigmoid"),
        ]
    )
    said = np.array([[b"good film"], [b"bad"], [b""]], object)
    answers = model(tf.constant(said)).numpy()
    path = _saved(model, folder / "text.keras")
    return Brought(path=path, inputs={"inputs": said}, outputs={"output_0": answers})


def lookup(folder: Path) -> Brought:
    """A table of strings beside numbers; the inputs are a dictionary."""
    colour, size = keras.Input((1,), dtype="string", name="colour"), keras.Input((2,), name="size")
    known = layers.StringLookup(vocabulary=list(WORDS), output_mode="one_hot")(colour)
    price = layers.Dense(1, name="price")(layers.Concatenate()([known, size]))
    model = keras.Model({"colour": colour, "size": size}, {"price": price})
    inputs = {
        "colour": np.array([[b"red"], [b"blue"]], object),
        "size": np.random.default_rng(2).random([2, 2], np.float32),
    }
    answers = model({key: tf.constant(value) for key, value in inputs.items()})["price"].numpy()
    path = _saved(model, folder / "lookup.keras")
    return Brought(path=path, inputs=inputs, outputs={"price": answers})


def sequence(folder: Path) -> Brought:
    """An LSTM of sequences of any length."""
    model = keras.Sequential(
        [keras.Input((None, 5)), layers.LSTM(8), layers.Dense(3, activation="softmax")]
    )
    series = np.random.default_rng(3).random([2, 11, 5], np.float32)
    path = _saved(model, folder / "sequence.keras")
    answers = model.predict(series, verbose=0)
    return Brought(path=path, inputs={"inputs": series}, outputs={"output_0": answers})


@keras.saving.register_keras_serializable("brought")
class Subclassed(keras.Model):
    """A classifier whose layers are declared in another order than they are called."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.last = layers.Dense(1, activation="sigmoid")
        self.pool = layers.GlobalAveragePooling2D()
        self.normalize = layers.BatchNormalization()
        self.convolve = layers.Conv2D(4, 3, activation="relu")

    def call(self, images: Any, training: bool = False) -> Any:
        return self.last(self.pool(self.normalize(self.convolve(images), training=training)))


def subclassed(folder: Path) -> Brought:
    """A subclassed model in a .keras file, whose weights are those of a training step."""
    model = Subclassed()
    model.compile("sgd", "binary_crossentropy", jit_compile=False)
    pixels = COLOUR / np.float32(255)
    model.fit(pixels, np.array([0, 1, 0, 1]), verbose=0)
    path = _saved(model, folder / "subclassed.keras")
    return _classifier(
        model, path, COLOUR, pixels, lambda found: np.concatenate([1 - found, found], axis=1),
        input_range="0..1", custom_objects={"Subclassed": Subclassed},
    )  # fmt: skip


@keras.saving.register_keras_serializable("brought")
class SubclassedText(keras.Model):
    """Text by name, to numbers by name."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.split = layers.TextVectorization(vocabulary=list(WORDS), output_sequence_length=3)
        self.embed = layers.Embedding(5, 2)

    def call(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return {"vector": keras.ops.mean(self.embed(self.split(inputs["text"])), axis=1)}


def subclassed_text(folder: Path) -> Brought:
    """A subclassed model of strings in a dictionary."""
    model = SubclassedText()
    text = np.array([[b"red green"], [b"nothing"]], object)
    answers = model({"text": tf.constant(text)})["vector"].numpy()
    return Brought(
        path=_saved(model, folder / "subclassed_text.keras"),
        inputs={"text": text},
        outputs={"vector": answers},
        options={"custom_objects": {"SubclassedText": SubclassedText}},
    )


class _Module(tf.Module):
    def __init__(self, words: Path) -> None:
        super().__init__()
        self.weights = tf.Variable([[1.0, 2.0], [3.0, 4.0]])
        self.table = _table(words)

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
    def multiply(self, x: Any) -> dict[str, Any]:
        return {"y": tf.matmul(x, self.weights)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="word")])
    def look_up(self, word: Any) -> dict[str, Any]:
        return {"id": self.table.lookup(word)}


def _words(folder: Path) -> Path:
    path = folder / "words.txt"
    path.write_text("\n".join(WORDS) + "\n")
    return path


def _table(words: Path) -> Any:
    return tf.lookup.StaticHashTable(
        tf.lookup.TextFileInitializer(
            str(words), tf.string, tf.lookup.TextFileIndex.WHOLE_LINE,
            tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER,
        ),
        -1,
    )  # fmt: skip


def module(folder: Path) -> Brought:
    """A tf.Module with two signatures, a variable and a table from an asset."""
    made = _Module(_words(folder))
    signatures = {"serving_default": made.multiply, "look_up": made.look_up}
    tf.saved_model.save(made, str(folder / "module"), signatures=signatures)
    x = np.random.default_rng(4).random([3, 2], np.float32)
    answers = made.multiply(tf.constant(x))["y"].numpy()
    return Brought(path=folder / "module", inputs={"x": x}, outputs={"y": answers})


def tensorflow1(folder: Path) -> Brought:
    """A SavedModel of TensorFlow 1: a session's graph, a main_op, and an asset."""
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        word = v1.placeholder(tf.string, [None], name="word")
        weights = v1.get_variable("w", initializer=tf.constant([1.0, 2.0, 3.0]), use_resource=False)
        answer = tf.gather(weights, _table(_words(folder)).lookup(word) + 1)
        session.run([v1.global_variables_initializer(), v1.tables_initializer()])
        builder = v1.saved_model.builder.SavedModelBuilder(str(folder / "v1"))
        signature = v1.saved_model.predict_signature_def({"word": word}, {"weight": answer})
        builder.add_meta_graph_and_variables(
            session,
            ["serve"],
            signature_def_map={"serving_default": signature},
            main_op=v1.tables_initializer(),
            assets_collection=v1.get_collection(v1.GraphKeys.ASSET_FILEPATHS),
        )
        builder.save()
    return Brought(
        path=folder / "v1",
        inputs={"word": np.array([b"red", b"nothing", b"green"], object)},
        outputs={"weight": np.array([2.0, 1.0, 3.0], np.float32)},
    )


KINDS: tuple[Callable[[Path], Brought], ...] = (
    cnn, legacy_h5, exported_folder, logits, binary, multi_label, mobile_net, efficient_net,
    mixed_bfloat16, subclassed, two_and_two, text, lookup, sequence, subclassed_text, module,
    tensorflow1,
)  # fmt: skip
