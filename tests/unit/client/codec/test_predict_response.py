"""What is read of a PredictResponse without the message, against the message."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from servable_client import InvalidInput, Prediction, ServableError, ServerFailed
from servable_client._wire import wire_pb2 as wire
from servable_client._wire.tensors import fill_proto, from_proto
from servable_client.codec.predict_response import read

Answer = tuple[dict[str, np.ndarray], int | None]


def by_reading(body: bytes) -> Answer | None:
    found = read(body)
    if found is None:
        return None
    prediction = Prediction(outputs=found[0], version=found[1])
    return prediction.outputs, prediction.version


def by_message(body: bytes) -> Answer:
    message = wire.PredictResponse.FromString(body)
    outputs = {name: from_proto(tensor) for name, tensor in message.outputs.items()}
    spec = message.model_spec
    return outputs, spec.version.value if spec.HasField("version") else None


def assert_same(found: Answer, by: Answer) -> None:
    assert found[1] == by[1]
    assert found[0].keys() == by[0].keys()
    for name, array in found[0].items():
        assert array.dtype == by[0][name].dtype
        assert array.flags.aligned
        np.testing.assert_array_equal(array, by[0][name])


def response_of(
    arrays: dict[str, np.ndarray], version: int = 7, *, typed: bool = False
) -> wire.PredictResponse:
    response = wire.PredictResponse()
    response.model_spec.name = "any"
    response.model_spec.version.value = version
    for name, array in arrays.items():
        fill_proto(response.outputs[name], array, typed=typed)
    return response


DTYPES = st.sampled_from(
    [
        "float16", "float32", "float64", "int8", "int16", "int32", "int64",
        "uint8", "uint16", "uint32", "uint64", "bool", "complex64", "complex128",
    ]
)  # fmt: skip
ARRAYS = DTYPES.flatmap(lambda d: hnp.arrays(d, hnp.array_shapes(min_dims=0, min_side=0)))
TEXTS = st.lists(st.binary(max_size=200), max_size=40).map(lambda items: np.array(items, object))


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.text(max_size=200), ARRAYS | TEXTS, max_size=4), st.integers(0, 1 << 62))
def test_what_is_read_is_what_the_message_holds(
    arrays: dict[str, np.ndarray], version: int
) -> None:
    body = response_of(arrays, version).SerializeToString()
    found = by_reading(body)
    if found is None:
        # Left to the message: what has no elements.
        assert any(array.size == 0 for array in arrays.values())
    else:
        assert_same(found, by_message(body))


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.text(max_size=9), ARRAYS | TEXTS, max_size=3))
def test_typed_fields_are_read_too(arrays: dict[str, np.ndarray]) -> None:
    body = response_of(arrays, typed=True).SerializeToString()
    found = by_reading(body)
    if found is None:
        # Left to the message: what has no elements, and rare dtypes.
        rare = {"float16", "uint32", "uint64"}
        assert any(array.size == 0 or array.dtype.name in rare for array in arrays.values())
    else:
        assert_same(found, by_message(body))


@settings(max_examples=300, deadline=None)
@given(st.data(), st.booleans())
def test_damaged_answers_are_never_read_otherwise_than_by_the_message(
    data: st.DataObject, typed: bool
) -> None:
    arrays = {
        "probabilities": np.full([2, 3], 1 / 3, np.float32),
        "class_id": np.array([1, 2]),
        "label": np.array([b"Bag", b"Coat"], object),
    }
    body = bytearray(response_of(arrays, 3, typed=typed).SerializeToString())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(body) - 1))
        kind = data.draw(st.sampled_from(["change", "remove", "add", "cut"]))
        if kind == "change":
            body[at] = data.draw(st.integers(0, 255))
        elif kind == "remove":
            del body[at]
        elif kind == "add":
            body.insert(at, data.draw(st.integers(0, 255)))
        else:
            del body[at:]
        if not body:
            break
    try:
        by = by_message(bytes(body))
    except (DecodeError, InvalidInput):
        # What is wrong may be in a row of strings, which is read later.
        with suppress(ServableError):
            assert by_reading(bytes(body)) is None
        return
    found = by_reading(bytes(body))
    if found is not None:
        assert_same(found, by)


def test_a_second_answer_of_the_same_form_is_read_alike() -> None:
    for fill in (0.25, 0.5, 0.75):
        arrays = {"p": np.full([2, 3], fill, np.float32), "one": np.array([b"abc"], object)}
        body = response_of(arrays).SerializeToString()
        found = by_reading(body)
        assert found is not None
        assert_same(found, by_message(body))


@pytest.mark.parametrize(
    "answers",
    [
        [[1, 2, 3], [4, 5, 6]],
        [[300, 1, 2], [1, 300, 2], [2, 1, 300]],
        [[-1, 0, 5], [0, -1, 5]],
        [[300, 301], [1, 2, 3]],
    ],
    ids=["small", "of two bytes", "negative", "of another shape"],
)
def test_integers_and_labels_that_differ_are_read_alike(answers: list[list[int]]) -> None:
    for numbers in answers:
        arrays = {
            "class_id": np.array(numbers, np.int64),
            "label": np.array([f"label {abs(n) % 10}".encode() for n in numbers], object),
        }
        body = response_of(arrays, typed=True).SerializeToString()
        found = by_reading(body)
        assert found is not None
        assert_same(found, by_message(body))


def test_an_answer_of_the_same_length_and_another_form_is_read_alike() -> None:
    for name in ("first", "other"):
        body = response_of({name: np.array([1, 2], np.float32)}).SerializeToString()
        found = by_reading(body)
        assert found is not None
        assert list(found[0]) == [name]


def test_more_forms_than_are_remembered_are_read_alike() -> None:
    for size in range(1, 400):
        body = response_of({"x": np.arange(size, dtype=np.uint8)}).SerializeToString()
        found = by_reading(body)
        assert found is not None
        assert len(found[0]["x"]) == size


@pytest.mark.parametrize("count", [2, 32, 33, 100])
def test_rows_of_strings_are_read(count: int) -> None:
    items = [f"item {i}".encode() for i in range(count)]
    found = by_reading(response_of({"x": np.array(items, object)}).SerializeToString())
    assert found is not None
    assert found[0]["x"].tolist() == items


def test_a_damaged_row_of_strings_is_an_error_when_it_is_read() -> None:
    body = response_of({"x": np.array([b"ab", b"cd"], object)}).SerializeToString()
    damaged = body.replace(b"\x42\x02cd", b"\x42\x7fcd")
    found = read(damaged)
    assert found is not None
    with pytest.raises(ServerFailed):
        Prediction(outputs=found[0], version=found[1])["x"]


@pytest.mark.parametrize(
    "change",
    [
        lambda r: r.outputs["x"].tensor_shape.dim.add(size=-1),
        lambda r: setattr(r.outputs["x"].tensor_shape, "unknown_rank", True),
        lambda r: setattr(r.outputs["x"], "dtype", wire.DT_BFLOAT16),
        lambda r: setattr(r.outputs["x"], "tensor_content", b"short"),
        lambda r: r.outputs["x"].int_val.extend([1]),
        lambda r: setattr(r.outputs["x"], "version_number", 3),
    ],
    ids=["unknown size", "unknown rank", "other dtype", "too short", "two fields", "more fields"],
)
def test_an_unusual_tensor_is_left_to_the_message(change: object) -> None:
    response = response_of({"x": np.array([1, 2], np.float32)})
    assert callable(change)
    change(response)
    assert read(response.SerializeToString()) is None


def test_two_specs_are_left_to_the_message() -> None:
    body = response_of({"x": np.array([1], np.float32)}).SerializeToString()
    spec = wire.PredictResponse()
    spec.model_spec.version.value = 9
    assert read(body + spec.SerializeToString()) is None
