"""Tensors in JSON: https://www.tensorflow.org/tfx/serving/api_rest#predict_api.

The rules and the words are those of TensorFlow Serving's util/json_tensor.cc. Whole levels of
nested lists are checked and converted at once; only where that does not go, the values are
walked one by one, in TensorFlow Serving's order, to find what to complain about.
"""

from __future__ import annotations

from array import array
from itertools import chain
from math import prod
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np

from servable_client import InvalidInput
from servable_client._tensors import numpy_dtype
from servable_client._wire import wire_pb2 as wire
from servable_serving._json_base64 import decode_base64, is_base64
from servable_serving._json_reader import pairs_of
from servable_serving._json_words import dtype_word, show, type_word
from servable_serving._saved_model import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray


class TensorInfo(Protocol):
    """What is asked of an input: a signature's TensorInfo, ours or TensorFlow's."""

    @property
    def dtype(self) -> int:
        """The DataType."""


# Typed arrays that take integers, and check their range, at the speed of C. The small types are
# read as int32, and lose their upper bits: 256 is 0 in uint8.
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


def read_inputs(
    request: Mapping[str, Any], inputs: Mapping[str, TensorInfo], signature: str = ""
) -> tuple[bool, dict[str, NDArray[Any]]]:
    """The inputs in a predict request.

    Args:
        request: The request's object, as `parse_body` gives it.
        inputs: What the signature asks for, by name.
        signature: The signature's name as it was asked for, for an error's words.

    Returns:
        Whether they came in rows (`instances`), and arrays by name, strings as objects (bytes).
        In rows the first dimension is that of `instances`. Shapes are not held against `inputs`.

    Raises:
        ModelError: The values do not fit the dtypes, each other or the names.
    """
    if not inputs:
        raise _invalid(f"Failed to get input map for signature: {signature or 'DEFAULT'}")
    rows, columns = "instances" in request, "inputs" in request
    if rows and columns:
        raise _invalid(
            f"JSON Value: {show(request)} Not formatted correctly expecting only one of "
            "'inputs' or 'instances' keys to exist "
        )
    if rows:
        instances = request["instances"]
        if not isinstance(instances, list):
            raise _invalid(f"JSON Value: {show(request)} Expecting 'instances' to be an list/array")
        if not instances:
            raise _invalid(f"JSON Value: {show(request)} No values in 'instances' array")
        return True, _rows(instances, inputs)
    if columns:
        return False, _columns(request["inputs"], inputs)
    raise _invalid("Missing 'inputs' or 'instances' key")


def _rows(instances: list[Any], inputs: Mapping[str, TensorInfo]) -> dict[str, NDArray[Any]]:
    if not isinstance(instances[0], dict) and len(inputs) > 1:
        raise _invalid(
            "instances is a plain list, but expecting list of objects as multiple input tensors "
            "required as per tensorinfo_map"
        )
    if not _is_named(instances[0]):
        name = min(inputs)
        quick = _dense(instances, inputs[name].dtype)
        return {name: quick} if quick is not None else _walk_rows(instances, inputs)
    names = set(inputs)
    if names != {"b64"} and all(type(row) is dict and row.keys() == names for row in instances):
        out = {}
        for name in inputs:
            quick = _dense([row[name] for row in instances], inputs[name].dtype)
            if quick is None:
                break
            out[name] = quick
        else:
            return out
    return _walk_rows(instances, inputs)


def _columns(given: Any, inputs: Mapping[str, TensorInfo]) -> dict[str, NDArray[Any]]:
    if not _is_named(given):
        if len(inputs) > 1:
            raise _invalid(
                "inputs is a plain value/list, but expecting an object as multiple input tensors "
                "required as per tensorinfo_map"
            )
        ((name, info),) = inputs.items()
        return {name: _column(name, given, info)}
    out = {}
    for name in sorted(inputs):
        if name not in given:
            raise _invalid(f"Missing named input: {name} in 'inputs' object.")
        out[name] = _column(name, given[name], inputs[name])
    return out


def _column(name: str, value: Any, info: TensorInfo) -> NDArray[Any]:
    if isinstance(value, list):
        quick = _dense(value, info.dtype)
        if quick is not None:
            return quick
    shape, values = _walk(value, info.dtype)
    return _tensor(name, values, info.dtype, shape)


# The quick way: level by level.


def _dense(values: list[Any], data_type: int) -> NDArray[Any] | None:
    """Nested lists as an array, or None where the slow way must find out what they are."""
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
    """Values that are no lists as a flat array, or None where one of them does not fit."""
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
    # The others have no words in JSON; but where there is no value, none is missed.
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


# The slow way: value by value, in TensorFlow Serving's order.


def _walk_rows(instances: list[Any], inputs: Mapping[str, TensorInfo]) -> dict[str, NDArray[Any]]:
    named = _is_named(instances[0])
    shapes: dict[str, list[int]] = {}
    columns: dict[str, list[Any]] = {}
    for index, row in enumerate(instances):
        if named != _is_named(row):
            seen = ("object", "list") if named else ("value/list", "object")
            raise _invalid(f"Expecting {seen[0]} but got {seen[1]} at item {index} of input list")
        items = list(_members(row)) if named else [(min(inputs), row)]
        for name, value in items:
            try:
                _add_item(name, value, inputs, shapes, columns)
            except ModelError as error:
                key = f" key: {name}" if named else ""
                raise _invalid(
                    f"Failed to process element: {index}{key} of 'instances' list. "
                    f"Error: {error.code}: {error.message}"
                ) from None
        if named and {name for name, _ in items} != set(inputs):
            raise _invalid(
                f"Failed to process element: {index} of 'instances' list. JSON object: "
                f"{show(row)} keys must be equal to: {','.join(sorted(inputs))}"
            )
    return {
        name: _tensor(name, values, inputs[name].dtype, [len(instances), *shapes[name]])
        for name, values in columns.items()
    }


def _add_item(
    name: str,
    value: Any,
    inputs: Mapping[str, TensorInfo],
    shapes: dict[str, list[int]],
    columns: dict[str, list[Any]],
) -> None:
    if name not in inputs:
        raise _invalid(f"JSON object: does not have named input: {name}")
    shape, values = _walk(value, inputs[name].dtype)
    columns.setdefault(name, []).extend(values)
    expected = shapes.setdefault(name, shape)
    if prod(expected) != len(values):
        raise _invalid(f"Expecting tensor size: {prod(expected)} but got: {len(values)}")
    if expected != shape:
        raise _invalid(f"Expecting shape {_show_shape(expected)} but got: {_show_shape(shape)}")


def _members(row: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    # Names end at a zero byte, as C's strings do.
    return ((name.partition("\0")[0], value) for name, value in pairs_of(row))


def _walk(value: Any, data_type: int) -> tuple[list[int], list[Any]]:
    """The shape of nested lists, as their first elements tell it, and the values in them."""
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
                raise _invalid(
                    f"Encountered list at unexpected level: {level} expected < {len(shape)}"
                )
            if len(item) != shape[level]:
                raise _invalid(
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


def _fit(values: list[Any], data_type: int) -> bool:
    """Whether all values fit, none of them a list."""
    return _leaves(values, data_type) is not None


def _check_value(value: Any, data_type: int, level: int, rank: int) -> None:
    if level != rank:
        raise _invalid(
            f"JSON Value: {show(value)} found at incorrect level: {level + 1} in the JSON DOM. "
            f"Expected at level: {rank}"
        )
    if _fit([value], data_type):
        return
    if isinstance(value, dict) and data_type == wire.DT_STRING:
        raise _invalid(
            "Unable to base64 decode"
            if is_base64(value)
            else f"JSON Value: {show(value)} not formatted correctly for base64 data"
        )
    if not isinstance(value, dict) and data_type not in _TYPES:
        raise ModelError(
            "UNIMPLEMENTED",
            f"Conversion of JSON Value: {show(value)} to type: {dtype_word(data_type)}",
        )
    raise _invalid(
        f"JSON Value: {show(value)} Type: {type_word(value)} is not of expected type: "
        f"{dtype_word(data_type)}"
    )


def _tensor(name: str, values: list[Any], data_type: int, shape: list[int]) -> NDArray[Any]:
    if len(shape) > _MOST_DIMENSIONS:
        raise _invalid(f"tensor parsing error: {name}")
    # Where a row names an input twice there are too many values, and the first ones count.
    leaves = _leaves(values[: prod(shape)], data_type)
    assert leaves is not None, "checked one by one"
    return leaves.reshape(shape)


_TYPES = frozenset({*_INTEGERS, *_FLOATS, wire.DT_BOOL, wire.DT_STRING})

# NumPy's limit. TensorFlow's is 254, but no kernel takes as many.
_MOST_DIMENSIONS = 64


def _is_named(value: Any) -> bool:
    """Whether a value is an object of named inputs, and not a base64 string."""
    return isinstance(value, dict) and not is_base64(value)


def _show_shape(shape: list[int]) -> str:
    return f"[{','.join(map(str, shape))}]"


def _numpy_dtype(data_type: int) -> np.dtype[Any]:
    try:
        return numpy_dtype(cast("wire.DataType", data_type))
    except InvalidInput:
        raise ModelError(
            "UNIMPLEMENTED", f"tensors of type {dtype_word(data_type)} are not supported"
        ) from None


def _invalid(message: str) -> ModelError:
    return ModelError("INVALID_ARGUMENT", message)
