"""A candidate keeps the model contract."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.saved_model import fingerprinting_utils
from tensorflow_serving.apis import prediction_log_pb2
from tests.conftest import ROOT, SHIPPED

from servable_serving.core.errors import FolderError, ModelError
from servable_serving.core.names import IMAGE_FEATURE
from servable_serving.exporter.export import ExportError, encode_png, export
from servable_serving.model.saved_model import SavedModel, read_meta_graph
from servable_serving.repository.candidate import check_candidate
from servable_serving.repository.manifest import MANIFEST, checksums

if TYPE_CHECKING:
    from collections.abc import Iterator

    from servable_trainer.data.dataset import Dataset


class Other(NamedTuple):
    folder: Path
    pictures: np.ndarray
    expected: np.ndarray


@pytest.fixture(scope="module")
def model(candidate: Path) -> Iterator[SavedModel]:
    loaded = SavedModel(candidate)
    yield loaded
    loaded.close()


def examples(pictures: np.ndarray) -> np.ndarray:
    out = []
    for picture in pictures:
        feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[encode_png(picture)]))
        features = tf.train.Features(feature={IMAGE_FEATURE: feature})
        out.append(tf.train.Example(features=features).SerializeToString())
    return np.array(out, object)


def test_the_three_signatures_agree_with_the_network(
    model: SavedModel, run: Path, dataset: Dataset
) -> None:
    from servable_trainer.training.run import load_run

    pictures = dataset.test.images[:64]
    expected = load_run(run)[1].predict(pictures, verbose=0)

    plain = model.run("serving_default", {"image": pictures})
    np.testing.assert_allclose(plain["probabilities"], expected, atol=1e-5)
    assert plain["class_id"].tolist() == expected.argmax(axis=1).tolist()
    assert [dataset.labels[i].encode() for i in plain["class_id"]] == plain["label"].tolist()

    files = np.array([encode_png(picture) for picture in pictures], object)
    encoded = model.run("serving_bytes", {"image_bytes": files})
    np.testing.assert_allclose(encoded["probabilities"], expected, atol=1e-5)

    ranked = model.run("classify", {"inputs": examples(pictures)})
    assert (np.diff(ranked["scores"], axis=1) <= 0).all()  # best first
    assert ranked["classes"].shape == (64, 10)
    assert ranked["classes"][:, 0].tolist() == plain["label"].tolist()
    assert {frozenset(row) for row in ranked["classes"]} == {
        frozenset(label.encode() for label in dataset.labels)
    }


@pytest.mark.parametrize(
    "shape",
    [(), (2,), (28,), (28, 28), (1, 28), (1, 784), (1, 27, 28), (1, 28, 28, 1), (1, 1, 28, 28)],
)
def test_another_shape_is_refused_and_the_process_lives(
    model: SavedModel, shape: tuple[int, ...]
) -> None:
    # Without a check in the graph a wrong rank ends the process in a oneDNN kernel.
    with pytest.raises(ModelError) as caught:
        model.run("serving_default", {"image": np.zeros(shape, np.uint8)})
    assert caught.value.code == "INVALID_ARGUMENT"


@pytest.mark.parametrize(
    ("signature", "name"), [("serving_bytes", "image_bytes"), ("classify", "inputs")]
)
@pytest.mark.parametrize("shape", [(), (1, 1), (2, 1)])
def test_strings_of_another_shape_are_refused(
    model: SavedModel, signature: str, name: str, shape: tuple[int, ...]
) -> None:
    with pytest.raises(ModelError) as caught:
        model.run(signature, {name: np.full(shape, b"x", object)})
    assert caught.value.code == "INVALID_ARGUMENT"


@pytest.mark.parametrize("data", [b"\xa2\xa2", b"\xff" * 20, b"\xc3"])
def test_bytes_that_are_no_text_are_an_invalid_argument(model: SavedModel, data: bytes) -> None:
    """TensorFlow's message quotes them."""
    with pytest.raises(ModelError, match="Could not parse example input") as caught:
        model.run("classify", {"inputs": np.array([data], object)})
    assert caught.value.code == "INVALID_ARGUMENT"
    caught.value.message.encode()


def test_no_pictures_give_no_answers(model: SavedModel) -> None:
    answer = model.run("serving_default", {"image": np.zeros([0, 28, 28], np.uint8)})
    assert answer["probabilities"].shape == (0, 10)
    answer = model.run("serving_bytes", {"image_bytes": np.zeros(0, object)})
    assert answer["class_id"].shape == (0,)


def test_warm_up_records_are_upstreams_for_each_signature_at_each_batch(candidate: Path) -> None:
    path = candidate / "assets.extra" / "tf_serving_warmup_requests"
    seen = set()
    for data in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
        log = prediction_log_pb2.PredictionLog.FromString(data)
        kind = log.WhichOneof("log_type")
        request = getattr(log, kind).request
        if kind == "predict_log":
            (tensor,) = request.inputs.values()
            batch = tensor.tensor_shape.dim[0].size
        else:
            batch = len(request.input.example_list.examples)
        assert request.model_spec.name == "fashion_mnist"
        seen.add((kind, request.model_spec.signature_name, batch))
    assert seen == {
        (kind, signature, batch)
        for kind, signature in (
            ("predict_log", "serving_default"),
            ("predict_log", "serving_bytes"),
            ("classify_log", "classify"),
        )
        for batch in (1, 8, 32)
    }


@pytest.mark.parametrize("which", ["candidate", "shipped"])
def test_the_manifest_tells_where_it_comes_from(which: str, candidate: Path) -> None:
    manifest = check_candidate(candidate if which == "candidate" else SHIPPED)
    assert manifest["name"] == "fashion_mnist"
    assert manifest["versions"]["tensorflow"].startswith("2.20.")
    assert len(manifest["dataset"]["sha256"]) == 4
    assert 0 < manifest["metrics"]["validation"]["accuracy"] < 1
    assert 0 < manifest["metrics"]["test"]["accuracy"] < 1
    assert manifest["hyperparameters"]["width"] >= 16
    assert manifest["signatures"]["classify"]["method"] == "tensorflow/serving/classify"
    assert manifest["created"].endswith("+00:00")
    assert {"seed", "git_revision", "training", "labels"} <= manifest.keys()


def test_the_manifest_has_the_limits_of_the_graph(candidate: Path, model: SavedModel) -> None:
    limits = json.loads((candidate / MANIFEST).read_text())["limits"]
    rows = np.zeros([limits["rows"] + 1, 28, 28], np.uint8)
    with pytest.raises(ModelError) as caught:
        model.run("serving_default", {"image": rows})
    assert caught.value.code == "INVALID_ARGUMENT"
    assert len(model.run("serving_default", {"image": rows[1:]})["class_id"]) == limits["rows"]
    side = limits["image_side"]
    largest, larger = (encode_png(np.zeros((size, 1), np.uint8)) for size in (side, side + 1))
    model.run("serving_bytes", {"image_bytes": np.array([largest], object)})
    with pytest.raises(ModelError, match="4096"):
        model.run("serving_bytes", {"image_bytes": np.array([larger], object)})


def test_the_golden_requests_get_their_answers(candidate: Path, model: SavedModel) -> None:
    golden = json.loads((candidate / "assets.extra" / "manifest.json").read_text())["golden"]
    files = np.array([base64.b64decode(one["png"]) for one in golden], object)
    answer = model.run("serving_bytes", {"image_bytes": files})
    np.testing.assert_allclose(
        answer["probabilities"], [one["probabilities"] for one in golden], atol=1e-5
    )
    assert answer["label"].tolist() == [one["label"].encode() for one in golden]


def operations(folder: Path) -> Counter[str]:
    graph = read_meta_graph(folder).graph_def
    nodes = [*graph.node, *(node for one in graph.library.function for node in one.node_def)]
    return Counter(node.op for node in nodes)


def test_the_graph_is_made_for_inference(candidate: Path) -> None:
    for folder in (candidate, SHIPPED):
        found = operations(folder)
        assert not {"VarHandleOp", "ReadVariableOp", "AssignVariableOp", "VariableV2"} & set(found)
        # Batch norm has a square root of the variance for each; all of them are folded.
        assert "Rsqrt" not in found
        assert found["Conv2D"] > 2
        assert found["Conv2D"] + found["MatMul"] == found["BiasAdd"]
        # The network and the decoding are there once, and not for each signature.
        assert (found["Softmax"], found["DecodeImage"]) == (1, 1)
        graph = read_meta_graph(folder).graph_def
        weights = json.loads((folder / MANIFEST).read_text())["parameters"]
        assert weights * 4 < graph.ByteSize() < weights * 4 + 400_000


def test_python_loads_it_too(candidate: Path, model: SavedModel, dataset: Dataset) -> None:
    loaded = tf.saved_model.load(str(candidate))
    pictures = dataset.test.images[:8]
    answer = loaded.signatures["serving_default"](image=tf.constant(pictures))
    expected = model.run("serving_default", {"image": pictures})
    np.testing.assert_allclose(answer["probabilities"], expected["probabilities"], atol=1e-6)
    assert answer["label"].numpy().tolist() == expected["label"].tolist()
    ranked = loaded.signatures["classify"](inputs=tf.constant(list(examples(pictures))))
    assert ranked["classes"].numpy()[:, 0].tolist() == expected["label"].tolist()
    with pytest.raises((tf.errors.InvalidArgumentError, TypeError)):
        loaded.signatures["serving_default"](image=tf.zeros([2, 2], tf.uint8))


def test_the_same_weights_give_the_same_bytes(candidate: Path, run: Path, tmp_path: Path) -> None:
    """In a process that does nothing else, beside one that has trained and much more."""
    again = tmp_path / "again"
    code = f"""
from pathlib import Path
from dataclasses import replace
from servable_trainer import export_run, find
dataset = find()[1]
dataset = replace(dataset, train=dataset.train.first(3000))
export_run(Path({str(run)!r}), Path({str(again)!r}), dataset, name="fashion_mnist")
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    one, other = checksums(candidate), checksums(again)
    # TensorFlow draws a number for each fingerprint, and says so.
    assert one.pop("fingerprint.pb") != other.pop("fingerprint.pb")
    assert one == other
    assert len(one) == 4
    golden = [json.loads((f / MANIFEST).read_text())["golden"] for f in (candidate, again)]
    for before, after in zip(*golden, strict=True):
        assert before["png"] == after["png"]
        assert before["probabilities"] == pytest.approx(after["probabilities"], abs=2e-6)


def test_the_fingerprint_is_of_the_file_that_is_there(candidate: Path) -> None:
    for folder in (candidate, SHIPPED):
        written = tf.saved_model.experimental.read_fingerprint(str(folder))
        fresh = fingerprinting_utils.singleprint_from_saved_model(str(folder))
        assert written.singleprint() == fresh


def test_no_machines_paths_are_in_it(candidate: Path) -> None:
    for folder in (candidate, SHIPPED):
        for path in folder.rglob("*"):
            if path.is_file():
                data = path.read_bytes()
                for place in (candidate.parent, ROOT, Path.home()):
                    assert str(place).encode() not in data
                assert b"/site-packages/" not in data


def test_what_is_there_is_not_replaced(run: Path, tmp_path: Path, dataset: Dataset) -> None:
    from servable_trainer.training.export_run import export_run

    target = tmp_path / "candidate"
    target.mkdir()
    (target / "kept").touch()
    with pytest.raises(FolderError, match="exists already"):
        export_run(run, target, dataset, name="fashion_mnist")
    assert sorted(tmp_path.rglob("*")) == [target, target / "kept"]


def test_a_network_of_another_form_is_refused(tmp_path: Path, dataset: Dataset) -> None:
    import keras

    pictures = dataset.train.images[:32]
    flat = keras.Sequential([keras.Input((784,)), keras.layers.Dense(10)])
    with pytest.raises(ExportError, match="height, width"):
        export(flat, tmp_path / "c", name="n", labels=dataset.labels, examples=pictures, about={})
    three = keras.Sequential([keras.Input((28, 28)), keras.layers.Flatten(), keras.layers.Dense(3)])
    with pytest.raises(ExportError, match="10 labels"):
        export(three, tmp_path / "c", name="n", labels=dataset.labels, examples=pictures, about={})
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module", params=[(20, 36), (20, 36, 3)], ids=["grey", "colour"])
def other(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Other:
    """A candidate for pictures of another size, exported with five of them."""
    import keras

    shape = request.param
    keras.utils.set_random_seed(0)
    network = keras.Sequential(
        [
            keras.Input(shape, dtype="uint8"),
            keras.layers.Reshape((*shape, 1)[:3]),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(4, 3),
            keras.layers.Flatten(),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    random = np.random.default_rng(0)
    pictures = random.integers(0, 100, [5, *shape], np.uint8)
    # Noise on a light ground, in grey: a server would invert it, pixels are taken as they are.
    pictures[0] = 255 - pictures[0]
    folder = tmp_path_factory.mktemp("other") / "candidate"
    export(network, folder, name="other", labels=["a", "b", "c"], examples=pictures, about={})
    return Other(folder, pictures, network.predict(pictures, verbose=0))


def test_another_size_and_colour_are_exported(other: Other) -> None:
    shape = other.pictures.shape[1:]
    manifest = check_candidate(other.folder)
    image = manifest["signatures"]["serving_default"]["inputs"]["image"]
    assert image == {"dtype": "DT_UINT8", "shape": [-1, *shape]}
    files = np.array([encode_png(picture) for picture in other.pictures], object)
    model = SavedModel(other.folder)
    try:
        pixels = model.run("serving_default", {"image": other.pictures})
        np.testing.assert_allclose(pixels["probabilities"], other.expected, atol=1e-5)
        encoded = model.run("serving_bytes", {"image_bytes": files})["probabilities"]
        as_they_are = slice(0 if len(shape) == 3 else 1, None)
        np.testing.assert_allclose(encoded[as_they_are], other.expected[as_they_are], atol=1e-5)
        ranked = model.run("classify", {"inputs": examples(other.pictures)})
        np.testing.assert_allclose(ranked["scores"][:, 0], encoded.max(axis=1), atol=1e-5)
        golden = manifest["golden"]
        assert len(golden) == 4
        sent = np.array([base64.b64decode(one["png"]) for one in golden], object)
        np.testing.assert_allclose(
            model.run("serving_bytes", {"image_bytes": sent})["probabilities"],
            [one["probabilities"] for one in golden],
            atol=1e-5,
        )
        for wrong in (shape[:2], (1, *shape, 1), (1, *shape[::-1]), (1, 20, 36, 4), (1, 28, 28)):
            with pytest.raises(ModelError) as caught:
                model.run("serving_default", {"image": np.zeros(wrong, np.uint8)})
            assert caught.value.code == "INVALID_ARGUMENT"
    finally:
        model.close()


def test_few_examples_fill_the_warm_up(other: Other) -> None:
    path = other.folder / "assets.extra" / "tf_serving_warmup_requests"
    shapes = []
    for data in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
        log = prediction_log_pb2.PredictionLog.FromString(data)
        inputs = log.predict_log.request.inputs
        if "image" in inputs:
            shapes.append([dim.size for dim in inputs["image"].tensor_shape.dim])
    assert shapes == [[batch, *other.pictures.shape[1:]] for batch in (1, 8, 32)]


def test_examples_of_another_shape_are_refused(tmp_path: Path, dataset: Dataset) -> None:
    import keras

    network = keras.Sequential(
        [keras.Input((28, 28)), keras.layers.Flatten(), keras.layers.Dense(10)]
    )
    for wrong in (dataset.train.images[:32, :27], dataset.train.images[:0]):
        with pytest.raises(ExportError, match="examples"):
            export(
                network, tmp_path / "c", name="n", labels=dataset.labels, examples=wrong, about={}
            )
    assert not list(tmp_path.iterdir())
