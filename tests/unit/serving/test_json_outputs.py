"""Answers in JSON: every number reads back as the number it was."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from servable_serving.core.errors import ModelError
from servable_serving.server.json.outputs import write_outputs


def strings(*values: bytes) -> np.ndarray[Any, Any]:
    return np.array(values, object)


def test_rows_of_several_outputs() -> None:
    body = write_outputs(
        {
            "probabilities": np.array([[0.1, 0.9], [0.25, 0.75]], np.float32),
            "class_id": np.array([1, 9007199254740993]),
            "label": strings("Hemd & Hose <é>".encode(), b'a"\\\n'),
        },
        rows=True,
    )
    assert b"0.1,0.9" in body  # and not 0.10000000149011612
    assert "Hemd & Hose <é>".encode() in body
    assert json.loads(body) == {
        "predictions": [
            {"probabilities": [0.1, 0.9], "class_id": 1, "label": "Hemd & Hose <é>"},
            {"probabilities": [0.25, 0.75], "class_id": 9007199254740993, "label": 'a"\\\n'},
        ]
    }


@pytest.mark.parametrize(
    ("array", "rows", "columns"),
    [
        (
            np.array([[1, 2]], np.float32),
            b'{"predictions":[[1.0,2.0]]}',
            b'{"outputs":[[1.0,2.0]]}',
        ),
        (np.array([1.5], np.float32), b'{"predictions":[1.5]}', b'{"outputs":[1.5]}'),
        (np.float64(2.5) + np.zeros(()), None, b'{"outputs":2.5}'),
        (np.array(0.1, np.float32), None, b'{"outputs":0.1}'),
        (np.zeros((0, 3), np.float32), b'{"predictions":[]}', b'{"outputs":[]}'),
        (np.zeros((2, 0), np.float32), b'{"predictions":[[],[]]}', b'{"outputs":[[],[]]}'),
        (np.array([True, False]), b'{"predictions":[true,false]}', b'{"outputs":[true,false]}'),
        (np.array([[7]], np.uint8), b'{"predictions":[[7]]}', b'{"outputs":[[7]]}'),
        (
            np.array([2**64 - 1], np.uint64),
            b'{"predictions":[18446744073709551615]}',
            b'{"outputs":[18446744073709551615]}',
        ),
        (
            np.array([[1, 2], [3, 4]]).T,
            b'{"predictions":[[1,3],[2,4]]}',
            b'{"outputs":[[1,3],[2,4]]}',
        ),
        (strings(b"a"), b'{"predictions":["a"]}', b'{"outputs":["a"]}'),
    ],
)
def test_one_output(array: Any, rows: bytes | None, columns: bytes) -> None:
    assert write_outputs({"y": array}, rows=False) == columns
    if rows is not None:
        assert write_outputs({"y": array}, rows=True) == rows


def test_columns_of_several_outputs() -> None:
    body = write_outputs({"a": np.zeros(2), "b": np.zeros((), np.int32)}, rows=False)
    assert body == b'{"outputs":{"a":[0.0,0.0],"b":0}}'


def test_bytes_are_objects_where_the_name_says_so() -> None:
    outputs = {"echo_bytes": strings(b"\0\1\xfe", b"")}
    assert write_outputs(outputs, rows=True) == b'{"predictions":[{"b64":"AAH+"},{"b64":""}]}'
    # Not so with numbers, whatever their name.
    assert write_outputs({"n_bytes": np.array([5])}, rows=True) == b'{"predictions":[5]}'


def test_strings_that_are_no_utf_8_go_out_as_they_are() -> None:
    body = write_outputs({"y": strings(b"\x00\xff", "é".encode())}, rows=True)
    assert body == b'{"predictions": ["\\u0000\xff", "\xc3\xa9"]}'


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(4,), (2, 2)])
def test_what_is_not_finite_is_a_bare_word(
    dtype: type[np.floating[Any]], shape: tuple[int, ...]
) -> None:
    array = np.array([math.nan, math.inf, -math.inf, 0.1], dtype).reshape(shape)
    body = write_outputs(
        {"y": array, "label": strings(b"null", b"x").repeat(len(array) // 2)}, rows=True
    )
    for word in (b"NaN", b" Infinity", b"-Infinity", b'"null"', b"0.1"):
        assert word in body
    assert b"0.10000000149011612" not in body


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        ({}, "Cannot convert empty tensor map to JSON"),
        ({"y": np.zeros(())}, "Tensor name: y has no shape information "),
        (
            {"y": np.zeros(2), "z": np.zeros(3)},
            "Tensor name: z has inconsistent batch size: 3 expecting: 2",
        ),
        (
            {"y": np.zeros(2, np.float16)},
            "Failed to write JSON value for tensor type: half",
        ),
        (
            {"y": np.zeros(2, np.uint16)},
            "Failed to write JSON value for tensor type: uint16",
        ),
    ],
)
def test_outputs_that_have_no_rows(outputs: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError) as raised:
        write_outputs(outputs, rows=True)
    assert (raised.value.code, raised.value.message) == ("INVALID_ARGUMENT", words)


@given(
    st.sampled_from([np.float32, np.float64]).flatmap(
        lambda dtype: hnp.arrays(dtype, hnp.array_shapes(max_dims=3, max_side=4))
    )
)
def test_floats_read_back_as_they_were(array: np.ndarray[Any, Any]) -> None:
    body = write_outputs({"y": array}, rows=True)
    got = np.array(json.loads(body)["predictions"], array.dtype)
    np.testing.assert_array_equal(got, array)
    # Never an integer, so that a reader's list is not of mixed types.
    assert all(type(value) is float for value in np.ravel(json.loads(body)["predictions"]).tolist())
