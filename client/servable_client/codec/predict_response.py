"""Decode a PredictResponse without building the message.

The message creates an object for each field, which costs more than parsing the bytes here. Only
the form that servers write is parsed; everything else is left to the message.

Successive responses mostly differ in the elements of their tensors only. So the layout of a short
response is cached by its length, and the bytes around the elements of the next one are compared
with it. Rows of strings, an object each, are parsed on first access.
"""

from __future__ import annotations

import math
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from google.protobuf.message import DecodeError

from servable_client._errors import InvalidInput, ServerFailed
from servable_client._wire import wire_pb2 as wire
from servable_client._wire.dtypes import WIRE_DTYPES
from servable_client._wire.tensors import from_proto
from servable_client._wire.varints import unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from servable_client.types.answers import Output

# https://protobuf.dev/programming-guides/encoding/: a field number with its wire type, as in
# wire.proto. Type 2 is length-delimited, type 0 is a varint.
_OUTPUTS, _MODEL_SPEC = 1 << 3 | 2, 2 << 3 | 2
_KEY, _VALUE = 1 << 3 | 2, 2 << 3 | 2
_DTYPE, _SHAPE, _CONTENT = 1 << 3, 2 << 3 | 2, 4 << 3 | 2
_STRINGS = 8 << 3 | 2
_STRING = int(wire.DT_STRING)
# The typed fields whose elements are as in the memory of an array, and those of varints.
_IN_MEMORY = {
    int(wire.DT_FLOAT): 5 << 3 | 2,
    int(wire.DT_DOUBLE): 6 << 3 | 2,
    int(wire.DT_COMPLEX64): 9 << 3 | 2,
    int(wire.DT_COMPLEX128): 12 << 3 | 2,
}
_INTEGERS = {
    int(wire.DT_INT8): 7 << 3 | 2,
    int(wire.DT_INT16): 7 << 3 | 2,
    int(wire.DT_INT32): 7 << 3 | 2,
    int(wire.DT_UINT8): 7 << 3 | 2,
    int(wire.DT_UINT16): 7 << 3 | 2,
    int(wire.DT_INT64): 10 << 3 | 2,
    int(wire.DT_BOOL): 11 << 3 | 2,
}

# Above this number of strings the message is faster than the loop here, with the cold caches that
# follow the wait for a response.
_MAX_LOOP = 32

# The maximum size of a response whose layout is cached, and of the cache.
_MAX_CACHED_SIZE, _MAX_LAYOUTS = 4096, 256


class _Unusual(Exception):
    """The response has another form, or is corrupt."""


# An output: its name, the position of its elements, and what makes it from their bytes.
_Elements: TypeAlias = "tuple[str, slice, Callable[[bytes], Output]]"


class _Layout(NamedTuple):
    """A response without its elements: the bytes between them, and their meaning."""

    fixed: tuple[tuple[slice, bytes], ...]
    outputs: tuple[_Elements, ...]
    version: int | None


_layouts: dict[int, _Layout] = {}


def read(body: bytes) -> tuple[dict[str, Output], int | None] | None:
    """The outputs by name and the version; None if the message has to be parsed instead.

    Args:
        body: A PredictResponse.
    """
    layout = _layouts.get(len(body))
    if layout is not None:
        for place, known in layout.fixed:
            if body[place] != known:
                break
        else:
            try:
                return _made(layout.outputs, body), layout.version
            except (_Unusual, InvalidInput):
                return None
    found: list[_Elements] = []
    version: int | None = None
    at, end = 0, len(body)
    try:
        while at < end:
            tag = body[at]
            at, stop = _piece(body, at + 1, end)
            if tag == _OUTPUTS:
                key, value = _piece(body, at + 1, stop)
                if body[at] != _KEY or body[value] != _VALUE:
                    return None
                name = body[key:value].decode()
                value, last = _piece(body, value + 1, stop)
                if last != stop:
                    return None
                found.append((name, *_tensor(body, value, stop)))
            elif tag == _MODEL_SPEC and version is None:
                version = _version(body[at:stop])
            else:
                return None
            at = stop
        outputs = _made(found, body)
    except (_Unusual, IndexError, UnicodeDecodeError, DecodeError, InvalidInput):
        return None
    if end <= _MAX_CACHED_SIZE:
        _remember(body, found, version)
    return outputs, version


def _made(found: Iterable[_Elements], body: bytes) -> dict[str, Output]:
    outputs: dict[str, Output] = {}
    for name, place, make in found:
        outputs[name] = make(body[place])
    return outputs


def _remember(body: bytes, found: Sequence[_Elements], version: int | None) -> None:
    """Cache the layout of a response."""
    fixed, at = [], 0
    for _, elements, _ in found:
        place = slice(at, elements.start)
        fixed.append((place, body[place]))
        at = elements.stop
    fixed.append((slice(at, None), body[at:]))
    if len(_layouts) >= _MAX_LAYOUTS:
        _layouts.clear()
    _layouts[len(body)] = _Layout(tuple(fixed), tuple(found), version)


def _piece(body: bytes, at: int, end: int) -> tuple[int, int]:
    """The bounds of a length-delimited field whose length is at `at`."""
    size = body[at]
    at += 1
    if size > 127:
        size &= 127
        for shift in (7, 14, 21, 28):  # a message is smaller than 2 GiB
            byte = body[at]
            at += 1
            size |= (byte & 127) << shift
            if byte < 128:
                break
        else:
            raise _Unusual
    if at + size > end:
        raise _Unusual
    return at, at + size


def _tensor(body: bytes, at: int, end: int) -> tuple[slice, Callable[[bytes], Output]]:
    """The position of the elements in a TensorProto, and what makes an array from their bytes.

    The tensor consists of dtype and shape, then fields of one kind.
    """
    if body[at] != _DTYPE or body[at + 2] != _SHAPE or body[at + 3] > 127:
        raise _Unusual
    start = at + 4 + body[at + 3]
    if start >= end:
        raise _Unusual
    data_type, dtype, shape, size = _described(body[at:start])
    tag = body[start]
    if data_type == _STRING:
        if tag != _STRINGS:
            raise _Unusual
        if size > 1:
            return slice(start, end), partial(partial, _strings, body[at:start], size)
        first, stop = _piece(body, start + 1, end)
        if size != 1 or stop != end:
            raise _Unusual
        return slice(first, end), _string
    at, stop = _piece(body, start + 1, end)
    if stop != end:
        raise _Unusual
    if stop - at == size and tag in (_CONTENT, _IN_MEMORY.get(data_type)):
        # Of a copy of the bytes, which is aligned.
        array: Callable[..., Output] = np.ndarray
        return slice(at, stop), partial(array, shape, dtype)
    if tag == _INTEGERS.get(data_type):
        return slice(at, stop), partial(_integers, dtype, shape, size // dtype.itemsize)
    raise _Unusual


def _integers(dtype: np.dtype[Any], shape: tuple[int, ...], count: int, data: bytes) -> Output:
    """An array of `count` integers in a packed field.

    Raises:
        InvalidInput: They are corrupt.
    """
    if data.isascii():  # each number is below 128, and a byte
        if len(data) != count:
            raise _Unusual
        return np.ndarray(shape, np.uint8, data).astype(dtype)
    numbers = unpack(data)
    if len(numbers) != count:
        raise _Unusual
    return numbers.astype(dtype).reshape(shape)


def _string(data: bytes) -> Output:
    """A row of one string."""
    row = np.empty(1, object)
    row[0] = data
    return row


def _strings(head: bytes, count: int, data: bytes) -> NDArray[Any]:
    """A row of `count` strings, in fields that follow the `head` of their tensor.

    Raises:
        ServerFailed: They are corrupt.
    """
    found: list[bytes] = []
    at, end = 0, len(data)
    try:
        while at < end and count <= _MAX_LOOP:
            if data[at] != _STRINGS:
                raise _Unusual
            at, stop = _piece(data, at + 1, end)
            found.append(data[at:stop])
            at = stop
    except (_Unusual, IndexError):
        found = []
    if len(found) == count:
        return np.fromiter(found, object, count)
    try:
        return from_proto(wire.TensorProto.FromString(head + data))
    except DecodeError:
        raise ServerFailed("the response contains corrupt strings") from None


@lru_cache(maxsize=256)
def _described(head: bytes) -> tuple[int, np.dtype[Any], tuple[int, ...], int]:
    """The first two fields of a tensor: its data type, NumPy dtype, shape and size in bytes.

    For strings, which must have rank 1, the last item is their number.
    """
    message = wire.TensorProto.FromString(head)
    sizes = tuple(dim.size for dim in message.tensor_shape.dim)
    if message.tensor_shape.unknown_rank or any(size < 0 for size in sizes):
        raise _Unusual
    if message.dtype == _STRING and len(sizes) == 1:
        return _STRING, np.dtype(object), sizes, sizes[0]
    dtype = WIRE_DTYPES.get(message.dtype)
    if dtype is None:
        raise _Unusual
    return int(message.dtype), dtype, sizes, math.prod(sizes) * dtype.itemsize


@lru_cache(maxsize=256)
def _version(data: bytes) -> int | None:
    """The version in a ModelSpec."""
    spec = wire.ModelSpec.FromString(data)
    return spec.version.value if spec.HasField("version") else None
