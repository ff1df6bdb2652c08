"""Answers, examples and targets as values."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from servable_client import (
    Classification,
    ClassScores,
    InvalidInput,
    Prediction,
    Score,
    VersionStatus,
)
from servable_client._wire import wire_pb2 as wire
from servable_client.types.answers import VersionStatuses
from servable_client.types.examples import features, fill_input, serialize_example
from servable_client.types.operations import Target


def classification(**changes: Any) -> Classification:
    values: dict[str, Any] = {
        "label": "<script>",
        "class_id": 1,
        "probability": 0.75,
        "probabilities": np.array([0.25, 0.75], np.float32),
        "version": 3,
        "elapsed": 0.0021,
        "labels": ("a & b", "<script>"),
        **changes,
    }
    return Classification(**values)


def test_a_classification_as_text() -> None:
    assert str(classification()) == "<script> (75.0%)"


def test_a_classification_in_a_notebook_is_escaped() -> None:
    drawn = classification()._repr_html_()
    assert "<script>" not in drawn
    assert "&lt;script&gt;" in drawn
    assert "a &amp; b" in drawn


def test_a_classification_in_a_notebook_names_version_and_time() -> None:
    drawn = classification()._repr_html_()
    assert "version 3" in drawn
    assert "2.1 ms" in drawn


def test_a_classification_without_a_version_names_none() -> None:
    assert "version" not in classification(version=None)._repr_html_()


@pytest.mark.parametrize(("k", "count"), [(0, 0), (-1, 0), (1, 1), (2, 2), (9, 2)])
def test_the_likeliest_classes(k: int, count: int) -> None:
    assert len(classification().top(k)) == count


def test_the_likeliest_classes_come_best_first() -> None:
    assert classification().top() == [Score("<script>", 0.75, 1), Score("a & b", 0.25, 0)]


def test_classes_without_names_have_their_numbers() -> None:
    assert [score.label for score in classification(labels=()).top()] == ["<script>", "0"]


def test_a_prediction_is_a_mapping() -> None:
    answer = Prediction(outputs={"x": np.ones(2), "y": np.zeros(1)}, version=2)
    assert list(answer) == ["x", "y"]
    assert len(answer) == 2
    assert set(answer.outputs) == {"x", "y"}
    assert "version=2" in repr(answer)


def test_an_output_is_made_once() -> None:
    made: list[int] = []

    def make() -> Any:
        made.append(1)
        return np.ones(2)

    answer = Prediction(outputs={"x": make}, version=None)
    assert answer["x"] is answer["x"]
    assert made == [1]


def test_a_missing_output_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        Prediction(outputs={}, version=None)["x"]


ANSWER = Prediction(
    outputs={
        "x": np.arange(40, dtype=np.float32).reshape(4, 10) / 3,
        "<b>": np.array([b"<i>" + b"x" * 100, b"\xff", "text"], object),
        "none": np.zeros([0, 3], np.int64),
        "one": np.array(1.5, ml_dtypes.bfloat16),
        "quantized": np.array([(1,), (2,)], [("qint8", "i1")]),
        "complex": np.array([1 + 2j]),
        "flag": np.array([True]),
    },
    version=2,
)


def test_a_prediction_prints_as_a_table() -> None:
    assert str(ANSWER).splitlines() == [
        "<b>        string      [3]      <i>xxxxxxxxxxxxxxxxxxxxx..., \\xff, text",
        "complex    complex128  [1]      (1+2j)",
        "flag       bool        [1]      True",
        "none       int64       [0, 3]",
        "one        bfloat16    []       1.5",
        "quantized  qint8       [2]      1, 2",
        "x          float32     [4, 10]  0, 0.3333, 0.6667, 1, 1.333, ...",
    ]
    assert str(Prediction(outputs={}, version=None)) == ""


def test_a_prediction_names_its_outputs_in_one_line() -> None:
    answer = Prediction(outputs={"x": np.zeros([9, 9]), "n": np.array([b"a"], object)}, version=2)
    assert repr(answer) == "Prediction({'n': string [1], 'x': float64 [9, 9]}, version=2)"


def test_a_prediction_in_a_notebook_is_a_table() -> None:
    drawn = ANSWER._repr_html_()
    assert drawn.count("<tr>") == 8
    assert "<b>" not in drawn
    assert "<i>" not in drawn
    assert "version 2" in drawn
    assert "version" not in Prediction(outputs={}, version=None)._repr_html_()


def test_only_the_first_values_of_an_output_are_shown() -> None:
    class Untouched:
        def __str__(self) -> str:
            raise AssertionError("not shown")

    values = np.array(["a"] * 5 + [Untouched()] * 1000, object)
    answer = Prediction(outputs={"x": values}, version=2)
    assert str(answer).endswith("a, a, a, a, a, ...")
    assert "a, a, ..." in answer._repr_html_()


def test_versions_in_a_notebook_are_a_table() -> None:
    versions = VersionStatuses(
        [
            VersionStatus(version=2, state="END", error_code="INTERNAL", error_message="<b>"),
            VersionStatus(version=1, state="AVAILABLE"),
        ]
    )
    assert versions._repr_html_().count("<tr>") == 3
    assert "&lt;b&gt;" in versions._repr_html_()
    assert "AVAILABLE" in versions[1]._repr_html_()
    assert repr(versions) == repr(list(versions))


def test_class_scores_are_a_sequence() -> None:
    rows = [[Score("a", 0.5)], [Score("b", 0.25)]]
    answer = ClassScores(results=rows, version=1)
    assert len(answer) == 2
    assert answer[0] == rows[0]
    assert answer[1:] == rows[1:]


# -- examples -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "kind", "values"),
    [
        ("text", "bytes_list", [b"text"]),
        (b"a\0", "bytes_list", [b"a\0"]),
        (["a", b"b"], "bytes_list", [b"a", b"b"]),
        (np.array(["a", "b"]), "bytes_list", [b"a", b"b"]),
        (np.array([b"a"], object), "bytes_list", [b"a"]),
        (3, "int64_list", [3]),
        ([1, 2], "int64_list", [1, 2]),
        (True, "int64_list", [1]),
        (np.array([1], np.uint8), "int64_list", [1]),
        (0.5, "float_list", [0.5]),
        ([0.5, 1], "float_list", [0.5, 1.0]),
        ([], "float_list", []),
    ],
    ids=repr,
)
def test_a_feature_has_a_kind(value: Any, kind: str, values: list[Any]) -> None:
    assert features({"f": value}) == {"f": (kind, values)}


@pytest.mark.parametrize(
    "value",
    [[[1], [2]], [[1], [2, 3]], ["a", 1], [1j], np.array([1, "a"], object), None],
    ids=repr,
)
def test_a_value_that_no_feature_holds_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        features({"f": value})
    assert "f" in caught.value.message


@pytest.mark.parametrize("example", ["text", 3, [("a", 1)]])
def test_an_example_is_a_mapping(example: Any) -> None:
    with pytest.raises(InvalidInput):
        features(example)


def test_an_example_is_serialized() -> None:
    found = wire.Example.FromString(serialize_example({"a": 1, "b": "x", "c": []}))
    assert list(found.features.feature["a"].int64_list.value) == [1]
    assert list(found.features.feature["b"].bytes_list.value) == [b"x"]
    assert found.features.feature["c"].WhichOneof("kind") == "float_list"


def test_an_empty_example_is_still_one() -> None:
    assert wire.Example.FromString(serialize_example({})).HasField("features")


def test_a_number_that_does_not_fit_is_refused() -> None:
    with pytest.raises(InvalidInput):
        serialize_example({"a": np.array([2**64 - 1], np.uint64)})


def test_an_example_is_serialized_for_a_graph() -> None:
    data = serialize_example({"age": 3, "name": "a\0", "sizes": [0.5, 1]})
    found = wire.Example.FromString(data).features.feature
    assert list(found["age"].int64_list.value) == [3]
    assert list(found["name"].bytes_list.value) == [b"a\0"]
    assert list(found["sizes"].float_list.value) == [0.5, 1]
    assert serialize_example({"sizes": [0.5, 1], "name": "a\0", "age": 3}) == data


def test_what_is_not_an_example_is_refused() -> None:
    for wrong in (None, ["age", 3], {"age": [[1]]}, {"age": 1j}, {"age": 1 << 63}):
        with pytest.raises(InvalidInput):
            serialize_example(wrong)  # type: ignore[arg-type]


def test_no_examples_are_an_empty_list() -> None:
    found = wire.Input()
    fill_input(found, [])
    assert found.WhichOneof("kind") == "example_list"


# -- targets ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target",
    [
        Target(model="m"),
        Target(model="m", version=0),
        Target(model="m", version=(1 << 63) - 1),
        Target(model="m", label="stable"),
        Target(model="modèle"),
        Target(model="m" * 1000),
    ],
    ids=lambda target: str(target)[:40],
)
def test_a_valid_target(target: Target) -> None:
    target.checked()


@pytest.mark.parametrize(
    "target",
    [
        Target(model=""),
        Target(model="a\nb"),
        Target(model="m" * 1001),
        Target(model="m", version=-1),
        Target(model="m", version=1 << 63),
        Target(model="m", label=""),
        Target(model="m", version=1, label="stable"),
    ],
    ids=lambda target: str(target)[:40],
)
def test_an_invalid_target_is_refused(target: Target) -> None:
    with pytest.raises(InvalidInput):
        target.checked()
