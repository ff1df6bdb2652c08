"""Arrays as TensorProto and back."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from servable_client import InvalidInput
from servable_client._wire import wire_pb2 as wire
from servable_client._wire.dtypes import _extended, data_type_of, numpy_dtype
from servable_client._wire.tensors import as_array, fill_proto, from_proto, to_proto

NUMBERS = (
    "float16", "float32", "float64", "int8", "int16", "int32", "int64",
    "uint8", "uint16", "uint32", "uint64", "bool", "complex64", "complex128",
)  # fmt: skip
FIELDS = {
    "float32": ("float_val", [1.5, 2.5]),
    "float64": ("double_val", [1.5, 2.5]),
    "int8": ("int_val", [1, -2]),
    "uint16": ("int_val", [1, 65535]),
    "int64": ("int64_val", [1, -2]),
    "uint32": ("uint32_val", [1, 2]),
    "uint64": ("uint64_val", [1, 2]),
    "bool": ("bool_val", [True, False]),
}


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(NUMBERS).flatmap(
        lambda d: hnp.arrays(d, hnp.array_shapes(min_dims=0, min_side=0, max_dims=4))
    )
)
def test_numbers_survive_the_round_trip(array: np.ndarray) -> None:
    found = from_proto(wire.TensorProto.FromString(to_proto(array).SerializeToString()))
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.binary(max_size=20), max_size=5))
def test_strings_survive_the_round_trip(items: list[bytes]) -> None:
    assert from_proto(to_proto(np.array(items, object))).tolist() == items


@pytest.mark.parametrize("dtype", FIELDS)
def test_typed_fields_are_read(dtype: str) -> None:
    field, values = FIELDS[dtype]
    proto = to_proto(np.zeros(2, dtype))
    proto.tensor_content = b""
    getattr(proto, field).extend(values)
    found = from_proto(proto)
    assert (found.dtype, found.tolist()) == (np.dtype(dtype), values)


def test_bfloat16_becomes_an_array_that_converts_to_float32() -> None:
    proto = wire.TensorProto(dtype=wire.DT_BFLOAT16, half_val=[0x3FC0, 0xC000])
    proto.tensor_shape.dim.add(size=2)
    array = from_proto(proto)
    assert array.dtype.name == "bfloat16"
    assert array.astype(np.float32).tolist() == [1.5, -2.0]


def test_numbers_written_to_their_typed_field_are_those_of_the_array() -> None:
    array = np.array([[0, 127], [128, 255]], np.uint8)
    proto = wire.TensorProto()
    fill_proto(proto, array, typed=True)
    assert (list(proto.int_val), proto.tensor_content) == ([0, 127, 128, 255], b"")


def test_half_floats_are_read_from_their_bits() -> None:
    proto = wire.TensorProto(dtype=wire.DT_HALF, half_val=[0x3C00, 0xC000])
    proto.tensor_shape.dim.add(size=2)
    assert from_proto(proto).tolist() == [1.0, -2.0]


@pytest.mark.parametrize(
    ("data_type", "field"),
    [(wire.DT_COMPLEX64, "scomplex_val"), (wire.DT_COMPLEX128, "dcomplex_val")],
)
def test_complex_numbers_are_read_in_pairs(data_type: wire.DataType, field: str) -> None:
    proto = wire.TensorProto(dtype=data_type)
    proto.tensor_shape.dim.add(size=2)
    getattr(proto, field).extend([1, 2, 3, 4])
    assert from_proto(proto).tolist() == [1 + 2j, 3 + 4j]


def test_a_list_of_bytes_keeps_the_zeros_at_its_ends() -> None:
    # NumPy's own strings drop them, and a file may well end so.
    assert list(to_proto([b"a\0\0", b"b"]).string_val) == [b"a\0\0", b"b"]
    assert list(to_proto(b"\0").string_val) == [b"\0"]
    assert list(to_proto([["a\0"], ["é"]]).string_val) == [b"a\0", "é".encode()]


def test_big_endian_arrays_are_sent_little_endian() -> None:
    array = np.arange(5, dtype=">i4")
    np.testing.assert_array_equal(from_proto(to_proto(array)), array)


def test_the_last_value_fills_a_shape() -> None:
    proto = to_proto(np.zeros([2, 3], np.float32))
    proto.tensor_content = b""
    proto.float_val.extend([1, 2])
    assert from_proto(proto).tolist() == [[1, 2, 2], [2, 2, 2]]


def test_no_value_fills_a_shape_with_zeros() -> None:
    proto = to_proto(np.ones([2], np.float32))
    proto.tensor_content = b""
    assert from_proto(proto).tolist() == [0, 0]


def test_values_beyond_a_shape_are_dropped() -> None:
    proto = to_proto(np.zeros([1], np.float32))
    proto.tensor_content = b""
    proto.float_val.extend([1, 2])
    assert from_proto(proto).tolist() == [1]


def test_the_last_string_fills_a_shape() -> None:
    proto = wire.TensorProto(dtype=wire.DT_STRING, string_val=[b"a", b"b"])
    for size in (2, 2):
        proto.tensor_shape.dim.add(size=size)
    assert from_proto(proto).tolist() == [[b"a", b"b"], [b"b", b"b"]]


@pytest.mark.parametrize("sizes", [[-1], [1 << 40], [1 << 20, 1 << 20]], ids=str)
def test_an_impossible_shape_is_refused(sizes: list[int]) -> None:
    proto = wire.TensorProto(dtype=wire.DT_FLOAT, float_val=[1])
    for size in sizes:
        proto.tensor_shape.dim.add(size=size)
    with pytest.raises(InvalidInput):
        from_proto(proto)


def test_an_unknown_rank_is_that_of_the_dimensions() -> None:
    proto = wire.TensorProto(dtype=wire.DT_FLOAT, float_val=[1, 2])
    proto.tensor_shape.unknown_rank = True
    assert from_proto(proto).shape == ()
    proto.tensor_shape.dim.add(size=2)
    assert from_proto(proto).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("proto", "shape"),
    [
        (wire.TensorProto(dtype=wire.DT_STRING, string_val=[b"a"]), [(1 << 20) + 2]),
        (wire.TensorProto(dtype=wire.DT_STRING, string_val=[b"a" * (1 << 14)]), [1 << 20]),
        (wire.TensorProto(dtype=wire.DT_STRING), [1 << 21]),
        (wire.TensorProto(dtype=wire.DT_UINT8, int_val=[1]), [1 << 18, 28, 28]),
        (wire.TensorProto(dtype=wire.DT_FLOAT, float_val=[1, 2]), [1 << 29]),
        (wire.TensorProto(dtype=wire.DT_DOUBLE), [1 << 24]),
    ],
)
def test_a_short_list_does_not_fill_a_huge_shape(proto: wire.TensorProto, shape: list[int]) -> None:
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    with pytest.raises(InvalidInput, match="more than 64 MiB are not filled"):
        from_proto(proto)


def test_a_short_list_fills_a_shape_of_64_mebibytes() -> None:
    proto = wire.TensorProto(dtype=wire.DT_UINT8, int_val=[7])
    proto.tensor_shape.dim.add(size=64 << 20)
    array = from_proto(proto)
    assert (array.shape, int(array.min()), int(array.max())) == ((64 << 20,), 7, 7)


def test_content_of_another_size_is_refused() -> None:
    proto = to_proto(np.zeros(2, np.float32))
    proto.tensor_content = b"123"
    with pytest.raises(InvalidInput):
        from_proto(proto)


@pytest.mark.parametrize("array", [np.array([1, "a"], object), np.zeros(1, "datetime64[s]")])
def test_an_array_without_a_data_type_is_refused(array: np.ndarray) -> None:
    with pytest.raises(InvalidInput):
        to_proto(array)


def test_a_data_type_without_a_dtype_is_refused() -> None:
    with pytest.raises(InvalidInput):
        numpy_dtype(wire.DT_RESOURCE)


def test_a_dtype_of_a_package_that_is_not_installed_names_its_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    _extended.cache_clear()
    try:
        with pytest.raises(InvalidInput, match="bfloat16") as caught:
            numpy_dtype(wire.DT_BFLOAT16)
        assert "'.[dtypes]'" in str(caught.value.hint)
        assert numpy_dtype(wire.DT_HALF) == np.float16
        with pytest.raises(InvalidInput):
            to_proto(np.zeros(1, [("x", "f4")]))
    finally:
        _extended.cache_clear()


@pytest.mark.parametrize(
    ("value", "data_type"),
    [
        (np.zeros(1, np.float32), wire.DT_FLOAT),
        (np.zeros(1, ">f8"), wire.DT_DOUBLE),
        (np.array(["a"]), wire.DT_STRING),
        (np.array([b"a"], object), wire.DT_STRING),
    ],
)
def test_data_types(value: np.ndarray, data_type: wire.DataType) -> None:
    assert data_type_of(value) == data_type


def test_text_becomes_an_array_of_objects() -> None:
    assert as_array("a\0").item() == "a\0"
    assert as_array(["a", "b"]).dtype == object


def test_an_array_stays_the_same() -> None:
    array = np.array(["a"])
    assert as_array(array) is array
