"""What the bytes of a PredictResponse hold, without the message.

The message makes an object of each field on the way to it, which costs more than reading them
here. Only the form that servers write is read: everything else is left to the message.

From call to call an answer mostly differs in its elements alone. So where those stand in a short
one is remembered by its length, and of the next the rest is compared. Rows of strings, an object
each, are read when they are asked for.
"""

from __future__ import annotations

import math
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from google.protobuf.message import DecodeError

from servable_client._errors import ServerFailed
from servable_client._wire import wire_pb2 as wire
from servable_client._wire.tensors import WIRE_DTYPES, from_proto

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from servable_client.types.answers import Output

# https://protobuf.dev/programming-guides/encoding/: a field's number and wire type, by the fields'
# places in wire.proto. The type 2 is "a length, then as many bytes", 0 is a number.
_OUTPUTS, _MODEL_SPEC = 1 << 3 | 2, 2 << 3 | 2
_KEY, _VALUE = 1 << 3 | 2, 2 << 3 | 2
_DTYPE, _SHAPE, _CONTENT = 1 << 3, 2 << 3 | 2, 4 << 3 | 2
_FLOATS, _STRINGS, _INT64S = 5 << 3 | 2, 8 << 3 | 2, 10 << 3 | 2

_FLOAT, _INT64, _STRING = int(wire.DT_FLOAT), int(wire.DT_INT64), int(wire.DT_STRING)

_BYTE = np.dtype(np.uint8)

# More strings than these are read faster by a message than by a loop here, where the processor's
# caches hold other things, as they do after the wait for an answer.
_MANY = 32

# How long an answer is whose form is remembered, and how many are.
_SHORT, _MOST_FORMS = 4096, 256


class _Unusual(Exception):
    """It has another form, or is damaged."""


# Where an output's elements stand: its name, the place, dtype and shape; without a dtype it is one
# string.
_Elements: TypeAlias = "tuple[str, slice, np.dtype[Any] | None, tuple[int, ...]]"


class _Form(NamedTuple):
    """An answer but for its elements: the bytes between them, and what they say."""

    fixed: tuple[tuple[slice, bytes], ...]
    outputs: tuple[_Elements, ...]
    version: int | None


_forms: dict[int, _Form] = {}


def read(body: bytes) -> tuple[dict[str, Output], int | None] | None:
    """The outputs by name and the version; None where the message has to be asked.

    Args:
        body: A PredictResponse.
    """
    form = _forms.get(len(body))
    if form is not None:
        for place, known in form.fixed:
            if body[place] != known:
                break
        else:
            return _filled(form, body), form.version
    outputs: dict[str, Output] = {}
    found: list[_Elements | None] = []
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
                outputs[name], elements = _tensor(body, value, stop, name)
                found.append(elements)
            elif tag == _MODEL_SPEC and version is None:
                version = _version(body[at:stop])
            else:
                return None
            at = stop
    except (_Unusual, IndexError, UnicodeDecodeError, DecodeError):
        return None
    if end <= _SHORT:
        _remember(body, found, version)
    return outputs, version


def _filled(form: _Form, body: bytes) -> dict[str, Output]:
    """The outputs of an answer that has a form."""
    outputs: dict[str, Output] = {}
    for name, place, dtype, shape in form.outputs:
        if dtype is None:
            outputs[name] = array = np.empty(1, object)
            array[0] = body[place]
        else:
            outputs[name] = np.ndarray(shape, dtype, body[place])
    return outputs


def _remember(body: bytes, found: list[_Elements | None], version: int | None) -> None:
    """Keep the form of an answer, where each output's elements are in one piece."""
    if None in found:
        return
    outputs = tuple(elements for elements in found if elements is not None)
    fixed, at = [], 0
    for _, elements, _, _ in outputs:
        place = slice(at, elements.start)
        fixed.append((place, body[place]))
        at = elements.stop
    fixed.append((slice(at, None), body[at:]))
    if len(_forms) >= _MOST_FORMS:
        _forms.clear()
    _forms[len(body)] = _Form(tuple(fixed), outputs, version)


def _piece(body: bytes, at: int, end: int) -> tuple[int, int]:
    """Where what a length stands before begins and ends."""
    size = body[at]
    at += 1
    if size > 127:
        size &= 127
        for shift in (7, 14, 21, 28):  # a message has less than 2 GiB
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


def _tensor(body: bytes, at: int, end: int, name: str) -> tuple[Output, _Elements | None]:
    """The array that a TensorProto stands for, and where its elements are if in one piece.

    It has dtype and shape, then fields of one kind.
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
            return partial(_strings, body, at, start, end, size), None
        first, stop = _piece(body, start + 1, end)
        if size != 1 or stop != end:
            raise _Unusual
        only = np.empty(1, object)
        only[0] = body[first:end]
        return only, (name, slice(first, end), None, (1,))
    at, stop = _piece(body, start + 1, end)
    if stop != end:
        raise _Unusual
    elements: _Elements | None = None
    if stop - at == size and (tag == _CONTENT or (tag == _FLOATS and data_type == _FLOAT)):
        elements = name, slice(at, stop), dtype, shape
        # Of a copy, which is aligned.
        array: NDArray[Any] = np.ndarray(shape, dtype, body[at:stop])
    elif tag == _INT64S and data_type == _INT64 and stop - at == size // 8:
        # As many bytes as numbers: each is one below 128.
        array = np.ndarray(shape, _BYTE, body, at).astype(dtype)
    else:
        raise _Unusual
    return array, elements


def _strings(body: bytes, whole: int, at: int, end: int, count: int) -> NDArray[Any]:
    """A row of so many strings, in a tensor that begins at `whole`, the strings themselves at `at`.

    Raises:
        ServerFailed: They are damaged.
    """
    found: list[bytes] = []
    try:
        while at < end and count <= _MANY:
            if body[at] != _STRINGS:
                raise _Unusual
            at, stop = _piece(body, at + 1, end)
            found.append(body[at:stop])
            at = stop
    except (_Unusual, IndexError):
        found = []
    if len(found) == count:
        return np.fromiter(found, object, count)
    try:
        return from_proto(wire.TensorProto.FromString(body[whole:end]))
    except DecodeError:
        raise ServerFailed("the response contains corrupt strings") from None


@lru_cache(maxsize=256)
def _described(head: bytes) -> tuple[int, np.dtype[Any], tuple[int, ...], int]:
    """What a tensor's first two fields say: dtype by number and as NumPy's, shape, bytes.

    Of strings, which must be in a row, it is their number.
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
    return wire.ModelSpec.FromString(data).version.value or None
