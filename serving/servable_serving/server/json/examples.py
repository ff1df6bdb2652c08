"""Examples in JSON, and the responses of classify and regress.

The format is https://www.tensorflow.org/tfx/serving/api_rest#classify_and_regress_api, the rules
and the words those of TensorFlow Serving's util/json_tensor.cc.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from servable_client._wire import wire_pb2 as wire
from servable_serving.core.errors import ModelError, invalid
from servable_serving.server.json.decimals import printed
from servable_serving.server.json.outputs import dump
from servable_serving.server.json.rapidjson_values import (
    decode_base64,
    is_base64,
    is_double,
    pairs_of,
    show,
    type_word,
)

_LISTS = {"bytes": "bytes_list", "float": "float_list", "int64": "int64_list"}


def read_examples(request: dict[str, Any]) -> wire.Input:
    """The examples in a classify or regress request, and their context if there is one.

    Raises:
        ModelError: There are no examples, or one is not a flat object of lists of one kind.
    """
    out = wire.Input()
    into: Any = out.example_list
    if "context" in request:
        into = out.example_list_with_context
        into.context.CopyFrom(_example(request["context"]))
    # The message names classify for both methods.
    if "examples" not in request:
        raise _malformed(
            request, "When method is classify, key 'examples' is expected and was not found"
        )
    examples = request["examples"]
    if not isinstance(examples, list):
        raise _malformed(request, "Expecting 'examples' value to be an list/array")
    if not examples:
        raise _malformed(request, "'examples' value is an empty array")
    into.examples.extend(map(_example, examples))
    return out


def write_classifications(result: wire.ClassificationResult) -> bytes:
    """The body of a classify answer: for each example, pairs of a label and a score.

    Raises:
        ModelError: The result is empty.
    """
    if not result.classifications:
        raise invalid("Cannot convert empty ClassificationResults to JSON")
    scores = iter(
        _printed([item.score for each in result.classifications for item in each.classes])
    )
    return dump(
        {
            "results": [
                [[item.label, next(scores)] for item in each.classes]
                for each in result.classifications
            ]
        }
    )


def write_regressions(result: wire.RegressionResult) -> bytes:
    """The body of a regress answer: one number for each example.

    Raises:
        ModelError: The result is empty.
    """
    if not result.regressions:
        raise invalid("Cannot convert empty RegressionResults to JSON")
    return dump({"results": _printed([item.value for item in result.regressions])})


def _printed(values: list[float]) -> list[float]:
    numbers: list[float] = printed(np.array(values, np.float32)).tolist()
    return numbers


def _example(value: Any) -> wire.Example:
    if not isinstance(value, dict):
        raise invalid(f"Example must be JSON object but got JSON {type_word(value)}")
    out = wire.Example()
    for key, content in pairs_of(value):
        # Names end at a zero byte, as C's strings do; of a repeated one the last counts.
        name = key.partition("\0")[0]
        try:
            name.encode()
        except UnicodeEncodeError:
            raise invalid(f"Feature: {name} has a name that is no UTF-8") from None
        values = content if isinstance(content, list) else [content]
        out.features.feature[name].CopyFrom(_feature(name, values))
    return out


def _feature(name: str, values: list[Any]) -> wire.Feature:
    feature = wire.Feature()
    types = set(map(type, values))
    if types == {float}:
        feature.float_list.value.extend(_floats(values))
    elif types == {str}:
        feature.bytes_list.value.extend(_bytes(value) for value in values)
    elif values:
        kind, plain = _one_by_one(name, values)
        getattr(feature, _LISTS[kind]).value.extend(plain)
    return feature


def _one_by_one(name: str, values: list[Any]) -> tuple[str, list[Any]]:
    """The kind that the first value sets, and the values; in TensorFlow Serving's order."""
    expected = None
    out: list[Any] = []
    for value in values:
        if value is None or isinstance(value, list) or _is_plain_object(value):
            raise invalid(
                f"Feature: {name} has element with unexpected JSON type: {type_word(value)}"
            )
        kind = _kind(value)
        if expected not in (None, kind):
            raise invalid(f"Unexpected element type in feature: {name} expecting type: {expected}")
        expected = kind
        if kind == "int64" and value >= 1 << 63:
            raise invalid(f"Feature: {name} has uint64_t element. Only int64_t is supported.")
        # protobuf does not accept True as an integer.
        out.append(_bytes(value) if kind == "bytes" else +value)
    assert expected is not None
    return expected, _floats(out) if expected == "float" else out


def _is_plain_object(value: Any) -> bool:
    return isinstance(value, dict) and not is_base64(value)


def _kind(value: Any) -> str:
    if isinstance(value, str | dict):
        return "bytes"
    return "float" if not isinstance(value, bool) and is_double(value) else "int64"


def _bytes(value: str | dict[str, str]) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    data = decode_base64(value["b64"])
    if data is None:
        raise invalid("Unable to base64 decode")
    return data


def _floats(values: list[float]) -> list[float]:
    with np.errstate(over="ignore"):  # 1e39 is Infinity in float32
        floats: list[float] = np.array(values, np.float64).astype(np.float32).tolist()
    return floats


def _malformed(request: dict[str, Any], words: str) -> ModelError:
    return invalid(f"JSON Value: {show(request)} {words}")
