"""A SavedModel's graph, run by the names of its tensors."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tensorflow as tf
from tests.functional.serving.candidates import edit_graph

from servable_serving.core.errors import ModelError
from servable_serving.model.saved_model import SavedModel

if TYPE_CHECKING:
    from collections.abc import Iterator


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
    ):
        signatures[name].CopyFrom(signatures["serving_default"])
        getattr(signatures[name], side)[tensor].name = place


@pytest.fixture(scope="module")
def sums(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SavedModel]:
    """A model with signatures of all sorts, as people write them by hand."""
    folder = tmp_path_factory.mktemp("sums")
    module = _Sums()
    tf.saved_model.save(module, str(folder), signatures=module.sums)
    edit_graph(folder, _add_signatures)
    with closing(SavedModel(folder)) as model:
        yield model


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
        ("no such input", "NOT_FOUND", "FeedInputs: unable to find feed output nothing:0"),
        ("no such output", "NOT_FOUND", "FetchOutputs node nothing:0: not found"),
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
