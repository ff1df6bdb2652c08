"""Tensors come out of JSON by TensorFlow Serving's rules, and its words say why one does not."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from servable_client._wire import wire_pb2 as wire
from servable_serving.core.errors import ModelError
from servable_serving.server.json.arrays import dense, to_tensor, walk
from servable_serving.server.json.parse import parse_body
from servable_serving.server.json.rapidjson_values import decode_base64
from servable_serving.server.json.tensors import read_inputs

IN_ROW_0 = "Failed to process element: 0 of 'instances' list. Error: INVALID_ARGUMENT: "
IN_ROW_1 = "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: "


def read(body: str, **dtypes: int) -> tuple[bool, dict[str, np.ndarray[Any, Any]]]:
    signature = wire.SignatureDef()
    for name, dtype in (dtypes or {"x": wire.DT_FLOAT}).items():
        signature.inputs[name].dtype = dtype  # type: ignore[assignment]
    return read_inputs(parse_body(body.encode()), signature.inputs)


def said(body: str, **dtypes: int) -> str:
    with pytest.raises(ModelError) as raised:
        read(body, **dtypes)
    assert raised.value.code == "INVALID_ARGUMENT"
    return raised.value.message


@pytest.mark.parametrize(
    ("body", "rows", "value"),
    [
        ('{"instances": [[1, 2.5], [3, 4]]}', True, [[1, 2.5], [3, 4]]),
        ('{"instances": [{"x": [1, 2]}, {"x": [3, 4]}]}', True, [[1, 2], [3, 4]]),
        ('{"instances": [1, 2]}', True, [1, 2]),
        ('{"instances": [[], []]}', True, [[], []]),
        ('{"instances": [[[], []]]}', True, [[[], []]]),
        ('{"inputs": 2.0}', False, 2.0),
        ('{"inputs": []}', False, []),
        ('{"inputs": [[1], [2]]}', False, [[1], [2]]),
        ('{"inputs": {"x": [1], "other": "passed over"}}', False, [1]),
        ('{"instances": [[1]], "other": 1}', True, [[1]]),
    ],
)
def test_rows_and_columns(body: str, rows: bool, value: Any) -> None:
    in_rows, inputs = read(body)
    assert in_rows is rows
    assert inputs.keys() == {"x"}
    assert inputs["x"].dtype == np.float32
    np.testing.assert_array_equal(inputs["x"], np.array(value, np.float32))
    assert inputs["x"].shape == np.shape(value)


def test_several_inputs() -> None:
    a, b = wire.DT_INT32, wire.DT_STRING
    for body in (
        '{"instances": [{"a": 1, "b": ["p"]}, {"b": ["q"], "a": 2}]}',
        '{"inputs": {"b": [["p"], ["q"]], "a": [1, 2]}}',
    ):
        _, inputs = read(body, a=a, b=b)
        assert inputs["a"].tolist() == [1, 2]
        assert inputs["b"].tolist() == [[b"p"], [b"q"]]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('{"data": 1}', "Missing 'inputs' or 'instances' key"),
        (
            '{"inputs": [1.0], "instances": [1.0]}',
            (
                'JSON Value: {\n    "inputs": [1.0],\n    "instances": [1.0]\n} Not formatted '
                "correctly expecting only one of 'inputs' or 'instances' keys to exist "
            ),
        ),
        (
            '{"instances": {"x": [1.0]}}',
            (
                'JSON Value: {\n    "instances": {\n        "x": [1.0]\n    }\n} Expecting '
                "'instances' to be an list/array"
            ),
        ),
        (
            '{"instances": []}',
            "JSON Value: {\n    \"instances\": []\n} No values in 'instances' array",
        ),
        ('{"inputs": null}', "JSON Value: null Type: Null is not of expected type: float"),
        ('{"inputs": {}}', "Missing named input: x in 'inputs' object."),
        (
            '{"instances": [{"z": [1.0]}]}',
            (
                "Failed to process element: 0 key: z of 'instances' list. Error: INVALID_ARGUMENT: "
                "JSON object: does not have named input: z"
            ),
        ),
        # The keys before the unknown one are read first, and complained about first.
        (
            '{"instances": [{"x": "a", "z": 1}]}',
            (
                "Failed to process element: 0 key: x of 'instances' list. Error: INVALID_ARGUMENT: "
                'JSON Value: "a" Type: String is not of expected type: float'
            ),
        ),
        (
            '{"instances": [{}]}',
            (
                "Failed to process element: 0 of 'instances' list. JSON object: {} keys must be "
                "equal to: x"
            ),
        ),
        ('{"instances": [{"x": 1}, 2]}', "Expecting object but got list at item 1 of input list"),
        (
            '{"instances": [1, {"x": 2}]}',
            "Expecting value/list but got object at item 1 of input list",
        ),
        ('{"instances": [[1, 2, 3], [1, 2]]}', IN_ROW_1 + "Expecting tensor size: 3 but got: 2"),
        ('{"instances": [[1, 2, 3], 4]}', IN_ROW_1 + "Expecting tensor size: 3 but got: 1"),
        (
            '{"instances": [[[1, 2, 3], [4, 5, 6]], [[1, 2], [3, 4], [5, 6]]]}',
            IN_ROW_1 + "Expecting shape [2,3] but got: [3,2]",
        ),
        ('{"instances": [[1], 2]}', IN_ROW_1 + "Expecting shape [1] but got: []"),
        (
            '{"instances": [[[1, 2], [3]]]}',
            IN_ROW_0 + "Encountered list at unexpected size: 1 at level: 1 expected size: 2",
        ),
        (
            '{"instances": [[[1, 2], 3]]}',
            IN_ROW_0 + "JSON Value: 3 found at incorrect level: 2 in the JSON DOM. "
            "Expected at level: 2",
        ),
        (
            '{"instances": [[1, [2]]]}',
            IN_ROW_0 + "Encountered list at unexpected level: 1 expected < 1",
        ),
        ('{"inputs": [1, [2]]}', "Encountered list at unexpected level: 1 expected < 1"),
        (
            '{"instances": [[true]]}',
            IN_ROW_0 + "JSON Value: true Type: True is not of expected type: float",
        ),
        # The first value that does not fit is named, after those that do.
        (
            '{"instances": [[1, 2], [3, null]]}',
            IN_ROW_1 + "JSON Value: null Type: Null is not of expected type: float",
        ),
    ],
)
def test_words_of_a_request_that_does_not_fit(body: str, words: str) -> None:
    assert said(body) == words


def test_words_of_several_inputs() -> None:
    both = {"a": wire.DT_FLOAT, "b": wire.DT_FLOAT}
    assert said('{"instances": [{"a": 1, "b": 2}, {"a": 3}]}', **both) == (
        "Failed to process element: 1 of 'instances' list. JSON object: {\n    \"a\": 3\n} keys "
        "must be equal to: a,b"
    )
    assert said('{"inputs": {"a": [1]}}', **both) == "Missing named input: b in 'inputs' object."
    assert said('{"instances": [1, 2]}', **both) == (
        "instances is a plain list, but expecting list of objects as multiple input tensors "
        "required as per tensorinfo_map"
    )
    assert said('{"inputs": [1, 2]}', **both) == (
        "inputs is a plain value/list, but expecting an object as multiple input tensors required "
        "as per tensorinfo_map"
    )


def test_a_signature_without_inputs() -> None:
    for name, shown in (("", "DEFAULT"), ("both", "both")):
        with pytest.raises(ModelError) as raised:
            read_inputs({"instances": [1]}, {}, name)
        assert raised.value.message == f"Failed to get input map for signature: {shown}"


@pytest.mark.parametrize(
    ("dtype", "given_", "taken"),
    [
        (wire.DT_UINT8, "[0, 255, 256, -1]", [0, 255, 0, 255]),
        (wire.DT_INT8, "[127, 128]", [127, -128]),
        (wire.DT_INT16, "[32768, -0]", [-32768, 0]),
        (wire.DT_INT32, "[-2147483648, 2147483647]", [-2147483648, 2147483647]),
        (wire.DT_INT64, "[9007199254740993, -9223372036854775808]", [9007199254740993, -(1 << 63)]),
        (wire.DT_UINT32, "[4294967295]", [4294967295]),
        (wire.DT_UINT64, "[18446744073709551615]", [18446744073709551615]),
        (wire.DT_BOOL, "[true, false]", [True, False]),
        (wire.DT_FLOAT, "[1e39, -1e39, 16777217]", [np.inf, -np.inf, 16777216.0]),
        (wire.DT_DOUBLE, "[1.1, 3, 18446744073709551616]", [1.1, 3.0, 18446744073709551616.0]),
    ],
)
def test_values_that_a_dtype_takes(dtype: int, given_: str, taken: list[Any]) -> None:
    for body in ('{"instances": %s}', '{"inputs": %s}'):
        _, inputs = read(body % given_, x=dtype)
        assert inputs["x"].tolist() == taken


@pytest.mark.parametrize(
    ("dtype", "value", "shown", "kind", "name"),
    [
        (wire.DT_UINT8, "1.5", "1.5", "Number", "uint8"),
        (wire.DT_UINT8, "2.0", "2.0", "Number", "uint8"),
        (wire.DT_UINT8, "2147483648", "2147483648", "Number", "uint8"),
        (wire.DT_INT32, "2147483648", "2147483648", "Number", "int32"),
        (wire.DT_INT32, "-2147483649", "-2147483649", "Number", "int32"),
        (wire.DT_INT32, '"5"', '"5"', "String", "int32"),
        (wire.DT_INT32, "false", "false", "False", "int32"),
        (wire.DT_INT64, "9223372036854775808", "9223372036854775808", "Number", "int64"),
        (wire.DT_INT64, "99999999999999999999", "100000000000000000000.0", "Number", "int64"),
        (wire.DT_UINT32, "-1", "-1", "Number", "uint32"),
        (wire.DT_UINT64, "-1", "-1", "Number", "uint64"),
        (wire.DT_BOOL, "1", "1", "Number", "bool"),
        (wire.DT_STRING, "5", "5", "Number", "string"),
        (wire.DT_DOUBLE, '"1"', '"1"', "String", "double"),
        (wire.DT_FLOAT, '{"b64": "YQ=="}', '{\n    "b64": "YQ=="\n}', "Object", "float"),
    ],
)
def test_values_that_a_dtype_does_not_take(
    dtype: int, value: str, shown: str, kind: str, name: str
) -> None:
    words = f"JSON Value: {shown} Type: {kind} is not of expected type: {name}"
    assert said(f'{{"instances": [{value}]}}', x=dtype) == IN_ROW_0 + words
    assert said(f'{{"inputs": [{value}]}}', x=dtype) == words


def test_dtypes_that_have_no_form_in_json() -> None:
    for dtype, name in ((wire.DT_HALF, "half"), (wire.DT_UINT16, "uint16")):
        with pytest.raises(ModelError) as raised:
            read('{"inputs": [1]}', x=dtype)
        assert raised.value.code == "UNIMPLEMENTED"
        assert raised.value.message == f"Conversion of JSON Value: 1 to type: {name}"
        assert said('{"instances": [1]}', x=dtype) == (
            "Failed to process element: 0 of 'instances' list. Error: UNIMPLEMENTED: "
            f"Conversion of JSON Value: 1 to type: {name}"
        )
        assert read('{"inputs": []}', x=dtype)[1]["x"].shape == (0,)


@pytest.mark.parametrize(
    ("body", "taken"),
    [
        ('{"instances": ["a", {"b64": "Yg=="}]}', [b"a", b"b"]),
        ('{"instances": [{"x": {"b64": "AAH+"}}]}', [b"\0\1\xfe"]),
        ('{"inputs": {"b64": "YQ=="}}', b"a"),
        ('{"instances": ["a\\u0000b", "\\u00e9\\ud83d\\ude00"]}', [b"a\0b", "é😀".encode()]),
    ],
)
def test_strings(body: str, taken: Any) -> None:
    assert read(body, x=wire.DT_STRING)[1]["x"].tolist() == taken


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('{"instances": [{"b64": "###"}]}', IN_ROW_0 + "Unable to base64 decode"),
        (
            '{"instances": [{"b64": "YQ==", "c": 1}]}',
            (
                "Failed to process element: 0 key: b64 of 'instances' list. Error: "
                "INVALID_ARGUMENT: JSON object: does not have named input: b64"
            ),
        ),
        (
            '{"instances": [[{"b64": 5}]]}',
            IN_ROW_0 + 'JSON Value: {\n    "b64": 5\n} not formatted correctly for base64 data',
        ),
        (
            '{"instances": [["a", {"b64": "YQ==", "b64": "Yg=="}]]}',
            IN_ROW_0 + 'JSON Value: {\n    "b64": "YQ==",\n    "b64": "Yg=="\n} not formatted '
            "correctly for base64 data",
        ),
    ],
)
def test_strings_that_are_none(body: str, words: str) -> None:
    assert said(body, x=wire.DT_STRING) == words


def test_an_input_that_is_called_b64() -> None:
    # A string under that name is a picture and not a named input.
    assert read('{"instances": [{"b64": "YQ=="}]}', b64=wire.DT_STRING)[1]["b64"].tolist() == [b"a"]
    assert read('{"instances": [{"b64": 5}]}', b64=wire.DT_FLOAT)[1]["b64"].tolist() == [5.0]


def test_an_input_that_a_row_names_twice() -> None:
    # Both are read, and what is too much falls off the end.
    body = '{"instances": [{"x": [1], "x": [2]}, {"x": [3]}]}'
    assert read(body)[1]["x"].tolist() == [[1.0], [2.0]]
    assert said('{"instances": [{"x": [1], "x": "a"}]}').endswith(
        'JSON Value: "a" Type: String is not of expected type: float'
    )


def test_more_dimensions_than_a_tensor_may_have() -> None:
    deep = "[" * 300 + "]" * 300
    assert said(f'{{"instances": [{deep}]}}') == "tensor parsing error: x"
    assert said(f'{{"inputs": {deep}}}') == "tensor parsing error: x"


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("YWJj", b"abc"),
        ("YQ==", b"a"),
        ("YQ", b"a"),
        ("YQ..", b"a"),
        (" Y\tQ \n=\v=\f\r", b"a"),
        ("YR==", b"a"),  # the bits left over are passed over
        ("", b""),
        ("YQ=", None),
        ("YQ===", None),
        ("YWJj=", None),
        ("YWJj====", None),
        ("YWJjY===", None),
        ("Y", None),
        ("=", None),
        ("Y=Q=", None),
        ("_-8=", None),
        ("###", None),
        ("YQ=\0=", None),
        ("YQé=", None),
    ],
)
def test_base64(text: str, data: bytes | None) -> None:
    assert decode_base64(text) == data


@given(st.binary(), st.sampled_from("\t\n\v\f\r "), st.integers(0, 100))
def test_base64_of_anything_with_a_space_anywhere(data: bytes, space: str, at: int) -> None:
    text = base64.b64encode(data).decode()
    assert decode_base64(text) == data
    assert decode_base64(text[:at] + space + text[at:]) == data
    assert decode_base64(text.rstrip("=")) == data


_DTYPES = st.sampled_from(
    [
        wire.DT_FLOAT,
        wire.DT_DOUBLE,
        wire.DT_INT8,
        wire.DT_UINT8,
        wire.DT_INT16,
        wire.DT_INT32,
        wire.DT_INT64,
        wire.DT_UINT32,
        wire.DT_UINT64,
        wire.DT_BOOL,
        wire.DT_STRING,
    ]
)
_LEAVES = (
    st.integers(-3, 300)
    | st.sampled_from([2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1, -(2**63)])
    | st.booleans()
    | st.floats(allow_nan=False)
    | st.text(max_size=3)
    | st.none()
    | st.just({"b64": "YQ=="})
    | st.just({"b64": "?"})
)


@st.composite
def _tensors(draw: st.DrawFn) -> Any:
    """Nested lists that are mostly regular, of values that are mostly of one kind."""
    leaf = draw(st.sampled_from([_LEAVES, st.integers(0, 255), st.booleans(), st.floats(0, 1)]))
    value: st.SearchStrategy[Any] = leaf
    for size in draw(st.lists(st.integers(0, 3), max_size=3)):
        value = st.lists(value, min_size=size, max_size=size + draw(st.integers(0, 9)) // 9)
    return draw(value)


@given(_tensors(), _DTYPES)
def test_the_quick_way_and_the_slow_way_agree(value: Any, dtype: int) -> None:
    """What the quick way takes the slow way takes too, as the same array, and the reverse."""
    rows = value if isinstance(value, list) else [value]
    quick = dense(rows, dtype)
    try:
        shape, values = walk(rows, dtype)
    except ModelError:
        assert quick is None
        return
    assert quick is not None
    slow = to_tensor("x", values, dtype, shape)
    assert (quick.dtype, quick.shape) == (slow.dtype, slow.shape)
    assert quick.tolist() == slow.tolist()


@given(st.lists(_tensors(), min_size=1, max_size=3), _DTYPES)
def test_rows_are_columns_of_equal_shape(rows: list[Any], dtype: int) -> None:
    """A request in rows is taken where the same lists in a column are, and named ones too."""

    def outcome(body: Any) -> Any:
        try:
            array = read(json.dumps(body), x=dtype)[1]["x"]
        except ModelError:
            return None
        return array.shape, array.dtype, array.tolist()

    plain = outcome({"instances": rows})
    assert plain == outcome({"inputs": {"x": rows}})
    assert plain == outcome({"instances": [{"x": row} for row in rows]})
