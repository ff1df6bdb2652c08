"""Which signatures and which outputs of a graph Classify and Regress take."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.unit.serving.server.fakes import FakeModel, signature

from servable_client._wire import wire_pb2 as wire
from servable_serving.core.errors import ModelError
from servable_serving.core.names import CLASSIFY_METHOD, REGRESS_METHOD
from servable_serving.server.api.classify_regress import (
    check_classify,
    check_regress,
    classify,
    regress,
    serialize,
)

STRING, FLOAT = wire.DT_STRING, wire.DT_FLOAT


def classifier(inputs: list[str], outputs: list[str]) -> wire.SignatureDef:
    return signature(CLASSIFY_METHOD, dict.fromkeys(inputs, STRING), dict.fromkeys(outputs, STRING))


def regressor(inputs: list[str], outputs: list[str]) -> wire.SignatureDef:
    return signature(REGRESS_METHOD, dict.fromkeys(inputs, STRING), dict.fromkeys(outputs, FLOAT))


@pytest.mark.parametrize(
    ("outputs", "fetched"),
    [
        (["classes", "scores"], ["classes", "scores"]),
        (["scores"], ["scores"]),
        (["classes", "other"], ["classes"]),
    ],
)
def test_the_outputs_of_a_classifier_that_are_fetched(
    outputs: list[str], fetched: list[str]
) -> None:
    assert check_classify(classifier(["inputs"], outputs)) == fetched


@pytest.mark.parametrize(
    "definition",
    [
        classifier([], ["classes"]),
        classifier(["inputs", "more"], ["classes"]),
        classifier(["inputs"], []),
        classifier(["inputs"], ["classes", "scores", "more"]),
        classifier(["images"], ["classes"]),
        classifier(["inputs"], ["other"]),
    ],
    ids=["no input", "two inputs", "no output", "three outputs", "input name", "output name"],
)
def test_a_signature_that_is_no_classifiers(definition: wire.SignatureDef) -> None:
    with pytest.raises(ModelError) as raised:
        check_classify(definition)
    assert raised.value.code == "INVALID_ARGUMENT"


@pytest.mark.parametrize(
    "definition",
    [
        regressor([], ["outputs"]),
        regressor(["inputs"], []),
        regressor(["inputs"], ["outputs", "more"]),
        regressor(["images"], ["outputs"]),
        regressor(["inputs"], ["other"]),
    ],
    ids=["no input", "no output", "two outputs", "input name", "output name"],
)
def test_a_signature_that_is_no_regressors(definition: wire.SignatureDef) -> None:
    with pytest.raises(ModelError) as raised:
        check_regress(definition)
    assert raised.value.code == "INVALID_ARGUMENT"


def test_an_error_shows_the_signature() -> None:
    with pytest.raises(ModelError) as raised:
        check_regress(regressor(["inputs"], ["other"]))
    assert 'method_name: "tensorflow/serving/regress"' in raised.value.message


def examples(*labels: str, context: str = "") -> wire.Input:
    made = wire.Input()
    into: Any = made.example_list
    if context:
        into = made.example_list_with_context
        into.context.features.feature["context"].bytes_list.value.append(context.encode())
    for label in labels:
        example = into.examples.add()
        example.features.feature["label"].bytes_list.value.append(label.encode())
    return made


@pytest.mark.parametrize("given", [wire.Input(), examples()])
def test_no_examples_are_invalid(given: wire.Input) -> None:
    with pytest.raises(ModelError) as raised:
        serialize(given)
    assert raised.value.code == "INVALID_ARGUMENT"


def test_each_example_is_serialized() -> None:
    found = [wire.Example.FromString(data) for data in serialize(examples("a", "b"))]
    labels = [e.features.feature["label"].bytes_list.value[0] for e in found]
    assert labels == [b"a", b"b"]


def test_the_context_is_part_of_each_example() -> None:
    found = [wire.Example.FromString(data) for data in serialize(examples("a", "b", context="c"))]
    assert [sorted(example.features.feature) for example in found] == [["context", "label"]] * 2


def answering(**arrays: Any) -> FakeModel:
    model = FakeModel()
    model.answer = {name: np.asarray(array) for name, array in arrays.items()}
    return model


SCORES = np.array([[0.75, 0.25]], np.float32)
CLASSES = np.array([[b"a", b"b"]], object)


@pytest.mark.parametrize(
    "arrays",
    [
        {"scores": SCORES[0]},
        {"scores": SCORES.astype(np.float64)},
        {"scores": np.repeat(SCORES, 2, axis=0)},
        {"classes": CLASSES[0]},
        {"classes": SCORES},
        {"classes": CLASSES, "scores": SCORES[:, :1]},
    ],
    ids=["rank", "float64", "rows", "rank of classes", "dtype of classes", "widths"],
)
def test_outputs_that_are_no_classifiers(arrays: dict[str, Any]) -> None:
    with pytest.raises(ModelError) as raised:
        classify(answering(**arrays), "classify", examples("a"))
    assert raised.value.code == "INVALID_ARGUMENT"


def test_scores_alone_have_empty_labels() -> None:
    result = classify(answering(scores=SCORES), "classify", examples("a"))
    assert [(c.label, c.score) for c in result.classifications[0].classes] == [
        ("", 0.75), ("", 0.25),
    ]  # fmt: skip


def test_classes_alone_have_scores_of_zero() -> None:
    result = classify(answering(classes=CLASSES), "classify", examples("a"))
    assert [(c.label, c.score) for c in result.classifications[0].classes] == [("a", 0), ("b", 0)]


def test_a_label_that_is_not_utf_8_is_replaced() -> None:
    model = answering(classes=np.array([[b"\xff"]], object))
    result = classify(model, "classify", examples("a"))
    assert result.classifications[0].classes[0].label == "\ufffd"


@pytest.mark.parametrize("values", [[0.5, 1.5], [[0.5], [1.5]]])
def test_regressions_in_one_or_two_dimensions(values: Any) -> None:
    model = answering(outputs=np.array(values, np.float32))
    result = regress(model, "regress", examples("a", "b"))
    assert [regression.value for regression in result.regressions] == [0.5, 1.5]


@pytest.mark.parametrize(
    "outputs",
    [np.zeros([1, 2], np.float32), np.zeros(2, np.float32), np.zeros(1, np.int64)],
    ids=["shape", "rows", "dtype"],
)
def test_outputs_that_are_no_regressors(outputs: Any) -> None:
    with pytest.raises(ModelError) as raised:
        regress(answering(outputs=outputs), "regress", examples("a"))
    assert raised.value.code == "INVALID_ARGUMENT"


def test_an_unknown_signature_is_invalid() -> None:
    with pytest.raises(ModelError) as raised:
        classify(FakeModel(), "nosuch", examples("a"))
    assert raised.value.code == "INVALID_ARGUMENT"
