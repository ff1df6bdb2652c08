"""Small SavedModels whose outputs are closed formulas of their inputs.

Answers of a server can be compared to the digit, and the transcripts talk to these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

if TYPE_CHECKING:
    from pathlib import Path

LABELS = [
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
]  # fmt: skip


def _vector(dtype: tf.DType, name: str) -> tf.TensorSpec:
    return tf.TensorSpec([None], dtype, name=name)


_ROWS = tf.TensorSpec([None, 3], tf.float32, name="x")


class Linear(tf.Module):
    """y = slope * x + 1, on float32 [N, 3]."""

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = tf.Variable(float(slope))

    @tf.function(input_signature=[_ROWS])
    def serve(self, x: Any) -> dict[str, Any]:
        return {"y": self.slope * x + 1.0}

    @tf.function(input_signature=[_ROWS])
    def both(self, x: Any) -> dict[str, Any]:
        return {"y": self.slope * x + 1.0, "total": tf.reduce_sum(x, axis=1)}

    @tf.function(input_signature=[_vector(tf.float32, "a"), _vector(tf.float32, "b")])
    def two_inputs(self, a: Any, b: Any) -> dict[str, Any]:
        return {"sum": a + b}

    def signatures(self) -> dict[str, Any]:
        return {"serving_default": self.serve, "both": self.both, "two_inputs": self.two_inputs}


class Types(tf.Module):
    """One signature a dtype; each gives its input back under another name."""

    def signatures(self) -> dict[str, Any]:
        def echo(dtype: tf.DType, out: str) -> Any:
            @tf.function(input_signature=[_vector(dtype, "value")])
            def run(value: Any) -> dict[str, Any]:
                return {out: tf.identity(value)}

            return run

        dtypes = (
            tf.bool, tf.uint8, tf.int32, tf.int64, tf.float64, tf.float32, tf.string,
        )  # fmt: skip
        signatures = {dtype.name: echo(dtype, "echo") for dtype in dtypes}
        signatures["bytes"] = echo(tf.string, "echo_bytes")

        @tf.function(input_signature=[tf.TensorSpec([], tf.float32, name="value")])
        def scalar(value: Any) -> dict[str, Any]:
            return {"echo": value + 0.5}

        @tf.function(input_signature=[_vector(tf.float32, "value")])
        def strange(value: Any) -> dict[str, Any]:
            return {"log": tf.math.log(value), "inverse": 1.0 / value}

        signatures["scalar"] = scalar
        signatures["strange"] = strange
        signatures["serving_default"] = signatures["float32"]
        return signatures


class Reversed(tf.Module):
    """The rows of each input in reverse order; inputs of many dtypes in one signature."""

    DTYPES = (
        tf.float32, tf.float64, tf.int8, tf.int16, tf.int32, tf.int64, tf.uint8, tf.uint16,
        tf.uint32, tf.uint64, tf.bool, tf.string,
    )  # fmt: skip

    @tf.function(input_signature=[{d.name: tf.TensorSpec(None, d, d.name) for d in DTYPES}])
    def serve(self, values: dict[str, Any]) -> dict[str, Any]:
        return {name: tf.reverse(value, [0]) for name, value in values.items()}

    def signatures(self) -> dict[str, Any]:
        return {"serving_default": self.serve}


class Garments(tf.Module):
    """softmax(W image), with the three faces of an image classifier."""

    def __init__(self, sign: float = 1.0) -> None:
        super().__init__()
        grid = np.arange(784)[:, None] * 0.01 * (np.arange(10)[None, :] + 1)
        self.w = tf.Variable((sign * 0.05 * np.sin(grid)).astype("float32"))
        self.labels = tf.constant(LABELS)

    def answer(self, image: Any) -> dict[str, Any]:
        flat = tf.reshape(tf.cast(image, tf.float32) / 255.0, [-1, 784])
        probabilities = tf.nn.softmax(flat @ self.w)
        best = tf.argmax(probabilities, axis=1)
        label = tf.gather(self.labels, best)
        return {"probabilities": probabilities, "class_id": best, "label": label}

    def decode(self, one: Any) -> Any:
        image = tf.io.decode_image(one, channels=1, expand_animations=False)
        image = tf.image.resize(image, [28, 28])
        return tf.cast(tf.round(image), tf.uint8)[..., 0]

    @tf.function(input_signature=[tf.TensorSpec([None, 28, 28], tf.uint8, name="image")])
    def serve(self, image: Any) -> dict[str, Any]:
        return self.answer(image)

    @tf.function(input_signature=[_vector(tf.string, "image_bytes")])
    def serve_bytes(self, image_bytes: Any) -> dict[str, Any]:
        images = tf.map_fn(
            self.decode, image_bytes, fn_output_signature=tf.TensorSpec([28, 28], tf.uint8)
        )
        return self.answer(images)

    def parse(self, inputs: Any) -> Any:
        feature = tf.io.FixedLenFeature([784], tf.float32)
        return tf.io.parse_example(inputs, {"image": feature})["image"]

    @tf.function(input_signature=[_vector(tf.string, "inputs")])
    def classify(self, inputs: Any) -> dict[str, Any]:
        scores = tf.nn.softmax((self.parse(inputs) / 255.0) @ self.w)
        classes = tf.tile(self.labels[tf.newaxis], [tf.shape(scores)[0], 1])
        return {"classes": classes, "scores": scores}

    @tf.function(input_signature=[_vector(tf.string, "inputs")])
    def regress(self, inputs: Any) -> dict[str, Any]:
        return {"outputs": tf.reduce_mean(self.parse(inputs), axis=1)}

    def signatures(self) -> dict[str, Any]:
        return {
            "serving_default": self.serve,
            "serving_bytes": self.serve_bytes,
            "classify": self.classify,
            "regress": self.regress,
        }


class Slow(tf.Module):
    """As slow as it is asked to be, and tells with how many rows each row was run."""

    @tf.function(input_signature=[_vector(tf.int32, "steps")])
    def serve(self, steps: Any) -> dict[str, Any]:
        most = tf.reduce_max(steps)
        square = tf.cast(tf.fill([256, 256], most), tf.float32)
        _, square = tf.while_loop(
            lambda step, _: step < most,
            lambda step, square: (step + 1, tf.sin(square @ square)),
            (tf.constant(0), square),
        )
        nothing = tf.cast(tf.reduce_max(square) * 0.0, tf.int32)
        return {"steps": steps + nothing, "rows": tf.fill(tf.shape(steps), tf.size(steps))}

    def signatures(self) -> dict[str, Any]:
        return {"serving_default": self.serve}


def save(module: Any, path: Path) -> Path:
    """Write a version's folder."""
    # The functions are kept on the module so that their captures are tracked.
    module.kept = module.signatures()
    tf.saved_model.save(module, str(path), signatures=module.kept)
    return path


def add_warmup(path: Path, model: str, value: Any) -> None:
    """Write one warm-up record: a Predict on `serving_default` with `x` = value."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = "serving_default"
    request.inputs["x"].CopyFrom(tf.make_tensor_proto(value))
    log = prediction_log_pb2.PredictionLog(
        predict_log=prediction_log_pb2.PredictLog(request=request)
    )
    extra = path / "assets.extra"
    extra.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(extra / "tf_serving_warmup_requests")) as writer:
        writer.write(log.SerializeToString())


def save_all(root: Path) -> None:
    """Write every model that the transcripts talk to, below `root`."""
    for version in (1, 2, 3, 4):
        save(Linear(version + 1), root / "linear" / str(version))
    save(Types(), root / "types" / "1")
    save(Garments(), root / "garments" / "1")
    save(Garments(-1.0), root / "garments" / "2")

    add_warmup(save(Linear(2), root / "warm" / "1"), "warm", np.zeros([1, 3], "float32"))
    # Of the wrong dtype: the load must fail.
    add_warmup(save(Linear(3), root / "warm" / "2"), "warm", np.zeros([1, 3], "int32"))

    broken = root / "broken"
    save(Linear(2), broken / "1")
    (broken / "2").mkdir()
    (broken / "2" / "saved_model.pb").write_bytes(b"this is no SavedModel")
    (broken / "3").mkdir()  # an empty version folder

    # Last: the names in error messages that are recorded have the numbers of the functions before.
    save(Reversed(), root / "reversed" / "1")
