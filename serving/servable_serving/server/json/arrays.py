"""Arrays from nested lists in JSON.

Whole levels of nested lists are checked and converted at once; only where that does not go, the
values are walked one by one, in the order and with the words of TensorFlow Serving's
util/json_tensor.cc, to find what to complain about.
"""

from __future__ import annotations

from array import array
from itertools import chain
from math import prod
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from servable_client import InvalidInput
from servable_client._wire import wire_pb2 as wire
from servable_client._wire.dtypes import numpy_dtype, type_name
from servable_serving.core.errors import ModelError, invalid
from servable_serving.server.json.rapidjson_values import (
    decode_base64,
    is_base64,
    show,
    type_word,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Typed arrays convert integers and check their range in C. The small types are read as int32, and
# lose their upper bits: 256 is 0 in uint8.
_INTEGERS: dict[int, tuple[str, type[np.generic]]] = {
    wire.DT_INT8: ("i", np.int8),
    wire.DT_UINT8: ("i", np.uint8),
    wire.DT_INT16: ("i", np.int16),
    wire.DT_INT32: ("i", np.int32),
    wire.DT_INT64: ("q", np.int64),
    wire.DT_UINT32: ("I", np.uint32),
    wire.DT_UINT64: ("Q", np.uint64),
}
_FLOATS = (wire.DT_FLOAT, wire.DT_DOUBLE)
_NUMBERS = frozenset({int, float})
_TYPES = frozenset({*_INTEGERS, *_FLOATS, wire.DT_BOOL, wire.DT_STRING})

# NumPy's limit. TensorFlow's is 254, but no kernel accepts as many.
_MOST_DIMENSIONS = 64


def dense(values: list[Any], data_type: int) -> NDArray[Any] | None:
    """Nested lists as an array of the dtype, or None where `walk` must find out what they are."""
    shape = [len(values)]
    while values and type(values[0]) is list:
        if set(map(type, values)) != {list}:
            return None
        widths = set(map(len, values))
        if len(widths) != 1:
            return None
        shape += widths
        values = list(chain.from_iterable(values))
    leaves = _leaves(values, data_type)
    if leaves is None or len(shape) > _MOST_DIMENSIONS:
        return None
    return leaves.reshape(shape)


def _leaves(values: list[Any], data_type: int) -> NDArray[Any] | None:
    """Scalar values as a flat array, or None if one of them does not fit."""
    kinds = set(map(type, values))
    if data_type in _INTEGERS:
        return _integers(values, data_type) if kinds <= {int} else None
    if data_type in _FLOATS:
        if not kinds <= _NUMBERS:
            return None
        doubles = np.frombuffer(array("d", values), np.float64)
        if data_type == wire.DT_DOUBLE:
            return doubles
        with np.errstate(over="ignore"):  # 1e39 is Infinity in float32
            return doubles.astype(np.float32)
    if data_type == wire.DT_BOOL:
        return np.array(values, np.bool_) if kinds <= {bool} else None
    if data_type == wire.DT_STRING:
        return _strings(values)
    # The other dtypes have no representation in JSON, which an empty list does not need.
    return None if values else np.empty(0, _numpy_dtype(data_type))


def _integers(values: list[Any], data_type: int) -> NDArray[Any] | None:
    if data_type == wire.DT_UINT8:
        try:
            return np.frombuffer(bytearray(values), np.uint8)
        except ValueError:
            pass
    code, dtype = _INTEGERS[data_type]
    try:
        numbers = array(code, values)
    except OverflowError:
        return None
    return np.frombuffer(numbers, code).astype(dtype, copy=False)


def _strings(values: list[Any]) -> NDArray[Any] | None:
    out = np.empty(len(values), object)
    for index, value in enumerate(values):
        if isinstance(value, str):
            out[index] = value.encode("utf-8", "surrogateescape")
        elif is_base64(value) and (data := decode_base64(value["b64"])) is not None:
            out[index] = data
        else:
            return None
    return out


def walk(value: Any, data_type: int) -> tuple[list[int], list[Any]]:
    """The shape of nested lists, as given by their first elements, and the values in them.

    Raises:
        ModelError: The lists are not of that shape, or a value is not of the dtype.
    """
    shape: list[int] = []
    first = value
    while isinstance(first, list):
        shape.append(len(first))
        first = first[0] if first else None
    values: list[Any] = []
    open_ = [iter((value,))]
    while open_:
        level = len(open_) - 1
        for item in open_[-1]:
            if not isinstance(item, list):
                _check_value(item, data_type, level, len(shape))
                values.append(item)
                continue
            if level >= len(shape):
                raise invalid(
                    f"Encountered list at unexpected level: {level} expected < {len(shape)}"
                )
            if len(item) != shape[level]:
                raise invalid(
                    f"Encountered list at unexpected size: {len(item)} at level: {level} "
                    f"expected size: {shape[level]}"
                )
            if level + 1 == len(shape) and _fit(item, data_type):
                values += item
                continue
            open_.append(iter(item))
            break
        else:
            open_.pop()
    return shape, values


def to_tensor(name: str, values: list[Any], data_type: int, shape: list[int]) -> NDArray[Any]:
    """Values that were walked as an array of the shape.

    Raises:
        ModelError: It has more dimensions than an array may have.
    """
    if len(shape) > _MOST_DIMENSIONS:
        raise invalid(f"tensor parsing error: {name}")
    # If a row names an input twice there are too many values, and the first ones count.
    leaves = _leaves(values[: prod(shape)], data_type)
    assert leaves is not None, "checked one by one"
    return leaves.reshape(shape)


def _fit(values: list[Any], data_type: int) -> bool:
    """Whether all values fit, none of them a list."""
    return _leaves(values, data_type) is not None


def _check_value(value: Any, data_type: int, level: int, rank: int) -> None:
    if level != rank:
        raise invalid(
            f"JSON Value: {show(value)} found at incorrect level: {level + 1} in the JSON DOM. "
            f"Expected at level: {rank}"
        )
    if _fit([value], data_type):
        return
    if isinstance(value, dict) and data_type == wire.DT_STRING:
        raise invalid(
            "Unable to base64 decode"
            if is_base64(value)
            else f"JSON Value: {show(value)} not formatted correctly for base64 data"
        )
    if not isinstance(value, dict) and data_type not in _TYPES:
        raise ModelError(
            "UNIMPLEMENTED",
            f"Conversion of JSON Value: {show(value)} to type: {type_name(data_type)}",
        )
    raise invalid(
        f"JSON Value: {show(value)} Type: {type_word(value)} is not of expected type: "
        f"{type_name(data_type)}"
    )


def _numpy_dtype(data_type: int) -> np.dtype[Any]:
    try:
        return numpy_dtype(cast("wire.DataType", data_type))
    except InvalidInput:
        raise ModelError(
            "UNIMPLEMENTED", f"tensors of type {type_name(data_type)} are not supported"
        ) from None
