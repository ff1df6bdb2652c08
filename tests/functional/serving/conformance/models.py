"""SavedModels of other kinds: every dtype, text and tables, Keras, TensorFlow 1, warm-up records.

The transcripts in `more_transcripts` talk to these. The order matters: TensorFlow and Keras number
functions, tensors and layers, and their names are in metadata and error messages.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf
from google.protobuf import text_format
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

v1 = tf.compat.v1

DTYPES = {
    "half": tf.float16,
    "bfloat16": tf.bfloat16,
    "complex64": tf.complex64,
    "complex128": tf.complex128,
    "int8": tf.int8,
    "int16": tf.int16,
    "uint16": tf.uint16,
    "uint32": tf.uint32,
    "uint64": tf.uint64,
    "qint8": tf.qint8,
    "quint8": tf.quint8,
    "qint32": tf.qint32,
    "f8": tf.dtypes.experimental.float8_e5m2,
}


def _takes(shape: list[int | None] | None, dtype: Any, name: str) -> Any:
    """A decorator for a signature of one input."""
    return tf.function(input_signature=[tf.TensorSpec(shape, dtype, name=name)])


def _save(module: tf.Module, path: Path, signatures: Mapping[str, Any]) -> None:
    module.kept = signatures
    tf.saved_model.save(module, str(path), signatures=signatures)


def save_more(root: Path) -> None:
    """A signature for each dtype, for odd shapes, and with odd names."""

    def echo(dtype: Any) -> Any:
        return _takes([None], dtype, "value")(lambda value: {"echo": tf.identity(value)})

    @_takes([None, 2], tf.float32, "value")
    def matrix(value: Any) -> dict[str, Any]:
        return {"echo": tf.identity(value)}

    @_takes(None, tf.float32, "value")
    def anyrank(value: Any) -> dict[str, Any]:
        return {"echo": tf.identity(value), "rank": tf.rank(value), "size": tf.size(value)}

    @_takes([None, None], tf.string, "value")
    def strings2(value: Any) -> dict[str, Any]:
        return {"echo": tf.identity(value)}

    @_takes([], tf.string, "value")
    def sstring(value: Any) -> dict[str, Any]:
        return {"echo": tf.strings.join([value, "!"])}

    @_takes([], tf.int64, "n")
    def rng(n: Any) -> dict[str, Any]:
        return {"out": tf.range(n)}

    signatures = {name: echo(dtype) for name, dtype in DTYPES.items()}
    signatures |= {"matrix": matrix, "anyrank": anyrank, "strings2": strings2}
    signatures |= {"sstring": sstring, "range": rng}
    names = ("serving_default", "with space", "a/b", "ünï", "sig:colon", 'quote"s')
    _save(tf.Module(), root / "more/1", signatures | dict.fromkeys(names, matrix))


def save_lookup(root: Path) -> None:
    """A vocabulary in an asset, and a table in memory; a copy without the asset."""
    vocabulary = root / "vocab.txt"
    vocabulary.write_text("cat\ndog\nbird\n")
    lookup = tf.lookup
    module = tf.Module()
    module.table = lookup.StaticVocabularyTable(
        lookup.TextFileInitializer(
            str(vocabulary),
            tf.string,
            lookup.TextFileIndex.WHOLE_LINE,
            tf.int64,
            lookup.TextFileIndex.LINE_NUMBER,
        ),
        2,
    )
    module.back = lookup.StaticHashTable(
        lookup.KeyValueTensorInitializer(
            tf.constant([0, 1, 2], tf.int64), tf.constant(["cat", "dog", "bird"])
        ),
        "?",
    )

    @_takes([None], tf.string, "word")
    def ids(word: Any) -> dict[str, Any]:
        return {"id": module.table.lookup(word)}

    @_takes([None], tf.int64, "id")
    def words(id: Any) -> dict[str, Any]:  # noqa: A002
        return {"word": module.back.lookup(id)}

    @_takes([None], tf.string, "text")
    def split(text: Any) -> dict[str, Any]:
        ragged = tf.strings.split(text)
        return {
            "values": ragged.flat_values,
            "row_splits": ragged.row_splits,
            "dense": ragged.to_tensor(""),
            "ids": module.table.lookup(ragged.flat_values),
        }

    _save(module, root / "lookup/1", {"serving_default": ids, "words": words, "split": split})
    shutil.copytree(root / "lookup/1", root / "noasset/1")
    shutil.rmtree(root / "noasset/1/assets")


def save_counter(root: Path) -> None:
    """A model with a state."""
    module = tf.Module()
    module.n = tf.Variable(0, dtype=tf.int64)

    @_takes([None], tf.float32, "x")
    def count(x: Any) -> dict[str, Any]:
        return {"count": module.n.assign_add(1) + 0, "x": x}

    @tf.function(input_signature=[])
    def reset() -> dict[str, Any]:
        return {"done": module.n.assign(0) + 0}

    _save(module, root / "counter/1", {"serving_default": count, "reset": reset})


def save_shapes(root: Path) -> None:
    """A second model beside another."""

    @_takes([None], tf.float32, "x")
    def positive(x: Any) -> dict[str, Any]:
        return {"where": tf.where(x > 0), "kept": tf.boolean_mask(x, x > 0)}

    _save(tf.Module(), root / "shapes/1", {"serving_default": positive})


def save_python(root: Path) -> None:
    """A model that calls Python, which no server does."""

    @_takes([None], tf.float32, "x")
    def pyf(x: Any) -> dict[str, Any]:
        return {"y": tf.py_function(lambda value: value, [x], tf.float32)}

    _save(tf.Module(), root / "pyf/1", {"serving_default": pyf})


def save_keras(root: Path) -> None:
    """Exported Keras models: named and listed outputs, text, a sequence; one of them as text."""
    keras.utils.set_random_seed(1)
    layers = keras.layers
    a = keras.Input((4,), name="a")
    b = keras.Input((2,), name="b", dtype="float32")
    hidden = layers.Dense(3, activation="relu", name="h")(layers.Concatenate()([a, b]))
    score = layers.Dense(1, name="score")(hidden)
    kind = layers.Dense(2, activation="softmax", name="kind")(hidden)
    functional = keras.Model({"a": a, "b": b}, {"score": score, "kind": kind})
    functional.export(str(root / "functional/1"), verbose=False)
    sequential = keras.Sequential([keras.Input((4,)), layers.Dense(2, name="d")])
    sequential.export(str(root / "sequential/1"), verbose=False)
    listed = keras.Model([a, b], [score, kind])
    listed.export(str(root / "listed/1"), verbose=False)

    ids = keras.Input((None,), dtype="int32", name="input_ids")
    mask = keras.Input((None,), dtype="int32", name="attention_mask")
    embedded = layers.Embedding(50, 4)(ids)
    pooled = layers.Lambda(
        lambda t: tf.reduce_mean(t[0] * tf.cast(t[1], tf.float32)[..., None], 1),
        output_shape=(4,),
    )([embedded, mask])
    outputs = {"last_hidden_state": embedded, "pooler_output": pooled}
    outputs["logits"] = layers.Dense(2)(pooled)
    bert = keras.Model({"input_ids": ids, "attention_mask": mask}, outputs)
    bert.export(str(root / "bert/1"), verbose=False)

    shutil.copytree(root / "sequential/1", root / "text/1")
    binary = root / "text/1/saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(binary.read_bytes())
    binary.with_suffix(".pbtxt").write_text(text_format.MessageToString(saved))
    binary.unlink()


def save_unsigned(root: Path) -> None:
    """A module that was saved without naming a signature."""
    module = tf.Module()
    module.v = tf.Variable(1.0)
    module.f = _takes([], tf.float32, "x")(lambda x: x * module.v)
    tf.saved_model.save(module, str(root / "nosig/1"))


def save_tensorflow_1(root: Path) -> None:
    """Graphs of TensorFlow 1 with an initializer: other tags, and two graphs in one model."""
    saving = v1.saved_model

    def signature(method: str | None, output: str = "y:0") -> Any:
        inputs = {"x": saving.build_tensor_info(x)}
        outputs = {"y": saving.build_tensor_info(y)}
        outputs["y"].name = output
        return saving.signature_def_utils.build_signature_def(inputs, outputs, method)

    with v1.Graph().as_default() as graph, v1.Session() as session:
        x = v1.placeholder(tf.float32, [None], "x")
        w = v1.get_variable("w", initializer=2.0, use_resource=False)
        collections = [v1.GraphKeys.LOCAL_VARIABLES]
        late = v1.get_variable("late", initializer=0.0, use_resource=True, collections=collections)
        y = tf.identity(w * x + late, "y")
        with v1.control_dependencies([v1.local_variables_initializer()]):
            initializer = late.assign(10.0).op
        session.run(v1.global_variables_initializer())
        signatures = {
            "serving_default": signature("tensorflow/serving/predict"),
            "own": signature("my/own/method"),
            "empty": signature(None),
            "wrong": signature("tensorflow/serving/predict", "gone:0"),
        }

        def build(name: str, *tags: str, first: Mapping[str, Any] = signatures) -> Any:
            graph.clear_collection("saved_model_main_op")
            builder = saving.Builder(str(root / name))
            builder.add_meta_graph_and_variables(session, list(tags), first, main_op=initializer)
            return builder

        build("v1/1", "serve").save()
        build("tagged/1", "train").save()
        build("gpu/1", "serve", "gpu").save()
        builder = build("twographs/1", "train", first={})
        graph.clear_collection("saved_model_main_op")
        builder.add_meta_graph(["serve"], signatures, main_op=initializer)
        builder.save()


def save_warmups(root: Path) -> None:
    """The counter with warm-up records: three, none, an invalid one, an empty one."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "warmcounter"
    request.model_spec.signature_name = "serving_default"
    request.inputs["x"].CopyFrom(tf.make_tensor_proto(np.ones([2], "float32")))
    log = prediction_log_pb2.PredictionLog(
        predict_log=prediction_log_pb2.PredictLog(request=request)
    )
    for name, records in (
        ("warmcounter", [log.SerializeToString()] * 3),
        ("warmempty", []),
        ("warmgarbage", [b"\xff\xff\xff"]),
        ("warmunset", [prediction_log_pb2.PredictionLog().SerializeToString()]),
    ):
        path = root / name / "1"
        shutil.copytree(root / "counter/1", path)
        (path / "assets.extra").mkdir()
        with tf.io.TFRecordWriter(str(path / "assets.extra/tf_serving_warmup_requests")) as writer:
            for record in records:
                writer.write(record)


def save_all(root: Path) -> None:
    """Write every model, below `root`."""
    root.mkdir(exist_ok=True)
    savers: tuple[Callable[[Path], None], ...] = (
        save_more, save_lookup, save_counter, save_shapes, save_python, save_keras, save_unsigned,
        save_tensorflow_1, save_warmups,
    )  # fmt: skip
    for save in savers:
        save(root)
