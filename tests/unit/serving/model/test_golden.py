"""Golden requests of models with signatures of their own."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from servable_serving.model.golden import (
    GoldenRequest,
    golden_request,
    golden_requests,
    made_up_inputs,
)
from servable_serving.repository.manifest import CandidateError

ARRAYS = [
    np.array([[1.5, -2.0], [np.pi, 0.0]], np.float32),
    np.array([1e300, -0.1]),
    np.array([0.5], np.float16),
    np.array([-128, 127], np.int8),
    np.array(2**63 - 1, np.int64),
    np.array([True, False]),
    np.array([[b"\xff\0", b""], [b"a", b"b"]], object),
    np.array([1 + 2j], np.complex64),
    np.zeros([0, 3], np.float32),
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: str(array.dtype))
def test_a_manifest_keeps_every_value(array: np.ndarray) -> None:
    written = golden_request("predict", {"x": array}, {"y": array})
    (read,) = golden_requests({"golden": json.loads(json.dumps([written]))})
    assert read.signature == "predict"
    for found in (read.inputs["x"], read.outputs["y"]):
        assert found.dtype == array.dtype
        assert found.shape == array.shape
        assert found.tolist() == array.tolist()
    assert read.difference({"y": array}, 0.0) is None


def test_a_request_of_megabytes_is_left_out() -> None:
    written = golden_request("predict", {"x": np.zeros(100_000)}, {})
    assert golden_requests({"golden": [written]}) == []


def test_golden_image_files_are_of_the_model_contract() -> None:
    assert golden_requests({"golden": [{"png": "", "probabilities": []}]}) == []
    assert golden_requests({}) == golden_requests({"golden": None}) == []


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"signature": "s"},
        {"signature": "s", "inputs": {"x": {}}, "outputs": {}},
        {"signature": "s", "outputs": {}, "inputs": {
            "x": {"dtype": "DT_FLOAT", "shape": [3], "values": [1.0]}}},
        {"signature": "s", "outputs": {}, "inputs": {
            "x": {"dtype": "DT_STRING", "shape": [1], "values": ["***"]}}},
        {"signature": "s", "outputs": {}, "inputs": {
            "x": {"dtype": "nosuch", "shape": [], "values": [1]}}},
    ],
)  # fmt: skip
def test_a_damaged_one_is_refused(entry: dict[str, Any]) -> None:
    with pytest.raises(CandidateError, match="golden requests"):
        golden_requests({"golden": [entry]})


def request_of(**outputs: Any) -> GoldenRequest:
    return GoldenRequest(signature="s", inputs={}, outputs=outputs)


PRICE = request_of(price=np.array([100.0, -1.0], np.float32))


@pytest.mark.parametrize(
    "answers",
    [
        {"price": [100.0, -1.0]},
        {"price": np.array([100.05, -1.05]), "more": [1]},
        {"price": [[100.0, -1.0]][0]},
    ],
)
def test_answers_within_the_tolerance_are_the_same(answers: dict[str, Any]) -> None:
    assert PRICE.difference(answers, 1e-3) is None


@pytest.mark.parametrize(
    "answers",
    [
        {},
        {"cost": [100.0, -1.0]},
        {"price": [100.0]},
        {"price": [[100.0, -1.0]]},
        {"price": [100.2, -1.0]},
        {"price": [float("nan"), -1.0]},
        {"price": [float("inf"), -1.0]},
    ],
)
def test_other_answers_differ(answers: dict[str, Any]) -> None:
    assert PRICE.difference(answers, 1e-3)


def test_nan_and_infinity_are_values_too() -> None:
    odd = request_of(x=np.array([np.nan, np.inf, 1.0]))
    assert odd.difference({"x": [np.nan, np.inf, 1.0]}, 1e-3) is None
    assert odd.difference({"x": [0.0, np.inf, 1.0]}, 1e-3)


def test_strings_and_integers_must_be_equal() -> None:
    both = request_of(word=np.array([b"a", b"b"], object), number=np.array([1, 2]))
    assert both.difference({"word": ["a", "b"], "number": [1, 2]}, 1.0) is None
    assert both.difference({"word": [{"b64": "YQ=="}, "b"], "number": [1, 2]}, 1.0) is None
    assert both.difference({"word": ["a", "c"], "number": [1, 2]}, 1.0)
    assert both.difference({"word": ["a", "b"], "number": [1, 3]}, 1.0)


def test_strings_go_over_rest_in_base64() -> None:
    one = np.empty([], object)
    one[()] = b"b"
    inputs = {"word": np.array([[b"a"]], object), "x": np.array([1.5]), "one": one}
    sent = GoldenRequest(signature="s", inputs=inputs, outputs={}).rest_inputs()
    assert sent == {"word": [[{"b64": "YQ=="}]], "x": [1.5], "one": {"b64": "Yg=="}}


def test_made_up_inputs_fit_the_signature() -> None:
    declared: dict[str, dict[str, Any]] = {
        "image": {"dtype": "DT_FLOAT", "shape": [-1, 4, 4, 1]},
        "tokens": {"dtype": "DT_INT32", "shape": [-1, -1]},
        "word": {"dtype": "DT_STRING", "shape": [-1]},
        "anything": {"dtype": "DT_BOOL", "shape": None},
        "scale": {"dtype": "DT_DOUBLE", "shape": []},
    }
    lengths = []
    for inputs in made_up_inputs(declared, rows=2):
        assert inputs["image"].shape == (2, 4, 4, 1)
        assert inputs["image"].dtype == np.float32
        assert 0 <= inputs["image"].min() < inputs["image"].max() <= 1
        assert inputs["word"].tolist() == [b"text"] * 2
        assert inputs["anything"].tolist() == [False] * 2
        assert inputs["scale"].shape == ()
        assert not inputs["tokens"].any()
        lengths.append(inputs["tokens"].shape[1])
    assert len(set(lengths)) == len(lengths) > 2
    assert len(list(made_up_inputs({"x": declared["scale"]}, rows=2))) == 1
