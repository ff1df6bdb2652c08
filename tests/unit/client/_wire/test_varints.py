"""Varints, against those of protobuf."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from servable_client import InvalidInput
from servable_client._wire import wire_pb2 as wire
from servable_client._wire.varints import read_varints, unpack, varint, varints


def packed(numbers: list[int]) -> bytes:
    """The packed field of a message; each of its numbers fits into 64 bits."""
    message = wire.TensorProto(uint64_val=numbers).SerializeToString()
    # A tag of two bytes, then the length.
    at = 2
    while message[at] > 127:
        at += 1
    return message[at + 1 :]


@given(st.lists(st.integers(0, (1 << 64) - 1), min_size=1))
@example([0, 127, 128, 16383, 16384, (1 << 63) - 1, 1 << 63, (1 << 64) - 1])
def test_numbers_are_packed_and_unpacked_as_by_protobuf(numbers: list[int]) -> None:
    array = np.array(numbers, np.uint64)
    assert varints(array) == packed(numbers) == b"".join(map(varint, numbers))
    assert unpack(packed(numbers)).tolist() == numbers


@given(st.lists(st.integers(-(1 << 63), (1 << 63) - 1), min_size=1))
def test_negative_numbers_take_ten_bytes(numbers: list[int]) -> None:
    array = np.array(numbers, np.int64)
    message = wire.TensorProto()
    message.MergeFromString(b"\x52" + varint(len(varints(array))) + varints(array))
    assert list(message.int64_val) == numbers
    assert unpack(varints(array)).view(np.int64).tolist() == numbers


def test_no_numbers_are_no_bytes() -> None:
    assert varints(np.zeros(0, np.int32)) == b""
    assert unpack(b"").tolist() == []


@pytest.mark.parametrize("data", [b"\x80", b"\x01\xff", b"\x80" * 10 + b"\x01"])
def test_a_number_that_is_cut_off_or_too_long_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput):
        unpack(data)


def test_as_many_numbers_as_asked_for_are_read() -> None:
    assert read_varints(b"\x01\xac\x02rest", 2) == ([1, 300], 3)


@pytest.mark.parametrize("data", [b"", b"\x01", b"\x01\x80", b"\x01\xff\xff\xff\xff\xff\x01"])
def test_fewer_numbers_than_asked_for_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput):
        read_varints(data, 2)
