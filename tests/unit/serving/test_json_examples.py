"""Examples in JSON become TensorFlow's, by TensorFlow Serving's rules and in its words."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from google.protobuf import json_format

from servable_client._wire import wire_pb2 as wire
from servable_serving.core.errors import ModelError
from servable_serving.server.json.examples import (
    read_examples,
    write_classifications,
    write_regressions,
)
from servable_serving.server.json.parse import parse_body


def features(value: str) -> Any:
    """The features of the one example `value`, in protobuf's JSON."""
    request = parse_body(f'{{"examples": [{value}]}}'.encode())
    (example,) = read_examples(request).example_list.examples
    return json_format.MessageToDict(example).get("features", {}).get("feature", {})


def said(body: str) -> str:
    with pytest.raises(ModelError) as raised:
        read_examples(parse_body(body.encode()))
    assert raised.value.code == "INVALID_ARGUMENT"
    return raised.value.message


@pytest.mark.parametrize(
    ("value", "kind", "taken"),
    [
        ("1.5", "floatList", [1.5]),
        ("[1.0, 2.5]", "floatList", [1.0, 2.5]),
        ("[1e39, NaN]", "floatList", ["Infinity", "NaN"]),
        ("[100000000000000000000]", "floatList", [1e20]),
        ("7", "int64List", ["7"]),
        ("[true, 2, false]", "int64List", ["1", "2", "0"]),
        ("[9223372036854775807]", "int64List", ["9223372036854775807"]),
        ('"a"', "bytesList", ["YQ=="]),
        ('["a", {"b64": "Yg"}]', "bytesList", ["YQ==", "Yg=="]),
    ],
)
def test_kinds_of_features(value: str, kind: str, taken: list[Any]) -> None:
    assert features(f'{{"f": {value}}}') == {"f": {kind: {"value": taken}}}


def test_features_without_values() -> None:
    assert features("{}") == {}
    assert features('{"f": []}') == {"f": {}}


def test_the_last_of_repeated_features_counts() -> None:
    assert features('{"f": 1, "f": "a"}') == {"f": {"bytesList": {"value": ["YQ=="]}}}
    assert said('{"examples": [{"f": null, "f": 1}]}') == (
        "Feature: f has element with unexpected JSON type: Null"
    )


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("null", "Feature: f has element with unexpected JSON type: Null"),
        ("[[1]]", "Feature: f has element with unexpected JSON type: Array"),
        ('{"g": 1}', "Feature: f has element with unexpected JSON type: Object"),
        ('[1, {"b64": 5}]', "Feature: f has element with unexpected JSON type: Object"),
        ("[1, 2.0]", "Unexpected element type in feature: f expecting type: int64"),
        ("[2.0, 1]", "Unexpected element type in feature: f expecting type: float"),
        ("[2.0, true]", "Unexpected element type in feature: f expecting type: float"),
        ('["a", 1]', "Unexpected element type in feature: f expecting type: bytes"),
        ('[1, {"b64": "YQ=="}]', "Unexpected element type in feature: f expecting type: int64"),
        (
            "9223372036854775808",
            "Feature: f has uint64_t element. Only int64_t is supported.",
        ),
        ('{"b64": "?"}', "Unable to base64 decode"),
    ],
)
def test_words_of_a_feature_that_is_none(value: str, words: str) -> None:
    assert said(f'{{"examples": [{{"f": {value}}}]}}') == words


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (
            '{"signature_name": "classify"}',
            (
                'JSON Value: {\n    "signature_name": "classify"\n} When method is classify, key '
                "'examples' is expected and was not found"
            ),
        ),
        (
            '{"examples": 1}',
            "JSON Value: {\n    \"examples\": 1\n} Expecting 'examples' value to be an list/array",
        ),
        (
            '{"signature_name": "classify", "examples": []}',
            (
                'JSON Value: {\n    "signature_name": "classify",\n    "examples": []\n} '
                "'examples' value is an empty array"
            ),
        ),
        ('{"examples": [[1]]}', "Example must be JSON object but got JSON Array"),
        ('{"examples": [{}, true]}', "Example must be JSON object but got JSON True"),
        # The context is read first.
        ('{"context": 5}', "Example must be JSON object but got JSON Number"),
    ],
)
def test_words_of_a_request_without_examples(body: str, words: str) -> None:
    assert said(body) == words


def test_a_context() -> None:
    request = parse_body(b'{"context": {"note": "x"}, "examples": [{"f": 1}, {"f": 2}]}')
    given = read_examples(request)
    assert given.WhichOneof("kind") == "example_list_with_context"
    both = given.example_list_with_context
    assert both.context.features.feature["note"].bytes_list.value == [b"x"]
    assert [example.features.feature["f"].int64_list.value for example in both.examples] == [
        [1],
        [2],
    ]


def test_classifications() -> None:
    result = wire.ClassificationResult()
    for scores in ((0.0360178761, 1.0), (math.nan, math.inf)):
        one = result.classifications.add()
        for label, score in zip(("T-shirt/top", "é"), scores, strict=True):
            one.classes.add(label=label, score=score)
    body = write_classifications(result)
    first, second = json.loads(body)["results"]
    assert first == [["T-shirt/top", 0.0360178761], ["é", 1.0]]
    assert math.isnan(second[0][1])
    assert second[1][1] == math.inf
    result.classifications.add()
    assert json.loads(write_classifications(result))["results"][2] == []


def test_regressions() -> None:
    result = wire.RegressionResult()
    for value in (128.142853, 1.0):
        result.regressions.add(value=value)
    assert write_regressions(result) == b'{"results":[128.142853,1.0]}'


def test_results_that_are_empty() -> None:
    with pytest.raises(ModelError, match="Cannot convert empty ClassificationResults to JSON"):
        write_classifications(wire.ClassificationResult())
    with pytest.raises(ModelError, match="Cannot convert empty RegressionResults to JSON"):
        write_regressions(wire.RegressionResult())
