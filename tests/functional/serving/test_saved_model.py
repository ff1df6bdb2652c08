"""A SavedModel's graph, run by the names of its tensors."""

from __future__ import annotations

import shutil
from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorflow.core.protobuf import saved_model_pb2
from tests.functional.serving.candidates import edit_graph

from servable_client._wire import wire_pb2 as wire
from servable_client._wire.dtypes import data_type_of, numpy_dtype, type_name
from servable_serving.core.errors import ModelError
from servable_serving.model.saved_model import SavedModel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


NOTHING = (
    "Tensor nothing:0, specified in either feed_devices or fetch_devices was not found in the Graph"
)


class _Sums(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def sums(self, x: Any) -> dict[str, Any]:
        return {"more": x + 1.0, "twice": x * 2.0}


def _add_signatures(meta_graph: Any) -> None:
    signatures = meta_graph.signature_def
    given = signatures["serving_default"].inputs["x"].name
    more = signatures["serving_default"].outputs["more"].name
    for name, side, tensor, place in (
        ("no index", "inputs", "x", given.partition(":")[0]),
        ("one tensor twice", "outputs", "twice", more),
        ("an input as output", "outputs", "more", given),
        ("no such input", "inputs", "x", "nothing:0"),
        ("no such output", "outputs", "more", "nothing:0"),
        ("no such place", "outputs", "more", given.replace(":0", ":7")),
        ("no outputs", "outputs", "more", "NoOp"),
    ):
        signatures[name].CopyFrom(signatures["serving_default"])
        getattr(signatures[name], side)[tensor].name = place


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with signatures of all sorts, as people write them by hand."""
    folder = tmp_path_factory.mktemp("sums")
    module = _Sums()
    tf.saved_model.save(module, str(folder), signatures=module.sums)
    edit_graph(folder, _add_signatures)
    return folder


@pytest.fixture(scope="module")
def sums(folder: Path) -> Iterator[SavedModel]:
    with closing(SavedModel(folder)) as model:
        yield model


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Path:
    """A copy of the model to change."""
    return shutil.copytree(folder, tmp_path / "copied")


@pytest.mark.parametrize(
    ("signature", "twice"),
    [("serving_default", [2.0, 4.0]), ("no index", [2.0, 4.0]), ("one tensor twice", [2.0, 3.0])],
)
@pytest.mark.parametrize("timeout", [None, 30.0])
def test_tensors_are_named_as_tensorflow_names_them(
    sums: SavedModel, signature: str, twice: list[float], timeout: float | None
) -> None:
    answer = sums.run(signature, {"x": np.array([1, 2], np.float32)}, timeout=timeout)
    np.testing.assert_array_equal(answer["more"], [2, 3])
    np.testing.assert_array_equal(answer["twice"], twice)


def test_no_shape_is_asked_for_that_the_graph_does_not_ask_for(sums: SavedModel) -> None:
    answer = sums.run("serving_default", {"x": np.array([[1, 2], [3, 4]], np.float32)}, ["more"])
    np.testing.assert_array_equal(answer["more"], [[2, 3], [4, 5]])


@pytest.mark.parametrize(
    ("signature", "code", "words"),
    [
        ("no such input", "INVALID_ARGUMENT", NOTHING),
        ("no such output", "INVALID_ARGUMENT", NOTHING),
        (
            "no such place",
            "OUT_OF_RANGE",
            (
                "Node 'serving_default_x' (type: 'Placeholder', num of outputs: 1) does not have "
                "output 7"
            ),
        ),
        (
            "no outputs",
            "OUT_OF_RANGE",
            "Node 'NoOp' (type: 'NoOp', num of outputs: 0) does not have output 0",
        ),
        ("an input as output", "INVALID_ARGUMENT", "serving_default_x:0 is both fed and fetched."),
    ],
)
def test_a_signature_that_does_not_fit_its_graph(
    sums: SavedModel, signature: str, code: str, words: str
) -> None:
    with pytest.raises(ModelError) as caught:
        sums.run(signature, {"x": np.array([1, 2], np.float32)})
    assert caught.value.code == code
    assert caught.value.message == words


def test_a_model_in_text_is_loaded(copied: Path) -> None:
    path = copied / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    path.unlink()
    path.with_suffix(".pbtxt").write_text(text_format.MessageToString(saved))
    with closing(SavedModel(copied)) as model:
        answer = model.run("serving_default", {"x": np.array([1], np.float32)})
    assert answer["more"].tolist() == [2]


def test_a_damaged_model_in_text_is_refused(copied: Path) -> None:
    (copied / "saved_model.pb").unlink()
    (copied / "saved_model.pbtxt").write_text("meta_graphs {")
    with pytest.raises(ModelError) as caught:
        SavedModel(copied)
    assert caught.value.code == "DATA_LOSS"
    assert caught.value.message == f"Can't parse {copied}/saved_model.pbtxt as text proto"


@pytest.mark.parametrize("tags", [("serve",), ("serve", "gpu"), ("gpu",)])
def test_the_graph_is_the_one_whose_tags_are_exactly_those(
    copied: Path, tags: tuple[str, ...]
) -> None:
    edit_graph(copied, lambda graph: graph.meta_info_def.tags.append("gpu"))
    if set(tags) == {"serve", "gpu"}:
        SavedModel(copied, tags=tags).close()
        return
    with pytest.raises(ModelError) as caught:
        SavedModel(copied, tags=tags)
    assert caught.value.code == "NOT_FOUND"
    assert f"matching supplied tags: {{ {' '.join(tags)} }}." in caught.value.message


def test_an_asset_that_is_listed_twice_is_refused(copied: Path) -> None:
    def list_twice(graph: Any) -> None:
        for _ in range(2):
            graph.asset_file_def.add(filename="vocab.txt").tensor_info.name = "Const:0"

    edit_graph(copied, list_twice)
    with pytest.raises(ModelError) as caught:
        SavedModel(copied)
    assert caught.value.code == "INVALID_ARGUMENT"
    assert caught.value.message == 'Endpoint "Const:0" fed more than once.'


def test_a_dtype_that_is_not_the_graphs_is_refused(sums: SavedModel) -> None:
    with pytest.raises(ModelError) as caught:
        sums.run("serving_default", {"x": np.zeros(1)})
    assert caught.value.message == "Expects arg[0] to be float but double is provided"


UNFED = {wire.DT_INVALID, wire.DT_RESOURCE, wire.DT_VARIANT}
# No kernel moves them.
UNMOVED = {wire.DT_INT2, wire.DT_UINT2}
DATA_TYPES = sorted(set(wire.DataType.values()) - UNFED - UNMOVED)


class _Echo(tf.Module):
    """A signature for each dtype, which gives back what it takes."""

    def __init__(self) -> None:
        super().__init__()
        self.echoes = {}
        for data_type in DATA_TYPES:
            spec = tf.TensorSpec([None], tf.dtypes.as_dtype(data_type), name="x")
            echo = tf.function(lambda x: {"y": tf.identity(x)}, input_signature=[spec])
            self.echoes[type_name(data_type)] = echo


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SavedModel]:
    folder = tmp_path_factory.mktemp("echo")
    module = _Echo()
    tf.saved_model.save(module, str(folder), signatures=module.echoes)
    with closing(SavedModel(folder)) as model:
        yield model


@pytest.mark.parametrize("data_type", DATA_TYPES, ids=type_name)
def test_a_tensor_of_any_dtype_passes_through(echo: SavedModel, data_type: int) -> None:
    dtype = numpy_dtype(data_type)
    array = np.array([1, 0]).astype(dtype)
    if data_type == wire.DT_STRING:
        array[:] = b"a", b""
    found = echo.run(type_name(data_type), {"x": array})["y"]
    assert data_type_of(found) == data_type
    assert found.tolist() == array.tolist()
