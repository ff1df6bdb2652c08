"""Answers in JSON: tensors in rows or in columns.

What orjson cannot write (NaN, infinities, invalid UTF-8) the standard library writes, more slowly.
"""

from __future__ import annotations

import binascii
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from servable_client._wire import wire_pb2 as wire
from servable_client._wire.dtypes import data_type_of, type_name
from servable_serving.core.errors import invalid
from servable_serving.server.json.decimals import printed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

_WRITTEN = frozenset(
    {
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
    }
)


def write_outputs(outputs: Mapping[str, NDArray[Any]], *, rows: bool) -> bytes:
    """The body of a predict answer.

    Args:
        outputs: Arrays by name, strings as objects (bytes); at least one.
        rows: Whether they are asked for in rows (`predictions`) or in columns (`outputs`).

    Raises:
        ModelError: In rows, if the outputs do not have the same number of rows; or JSON has no
            form for a dtype.
    """
    if not outputs:
        raise invalid("Cannot convert empty tensor map to JSON")
    if rows:
        _check_rows(outputs)
    for array in outputs.values():
        data_type = data_type_of(array)
        if array.size and data_type not in _WRITTEN:
            raise invalid(f"Failed to write JSON value for tensor type: {type_name(data_type)}")
    values = {name: _plain(name, array) for name, array in outputs.items()}
    if not rows:
        return dump({"outputs": values if len(values) > 1 else next(iter(values.values()))})
    if len(values) == 1:
        return dump({"predictions": next(iter(values.values()))})
    return dump(
        {
            "predictions": [
                dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)
            ]
        }
    )


def dump(value: Any) -> bytes:
    """JSON of plain values and arrays of numbers.

    NaN and the infinities are bare words; strings are UTF-8, and with surrogate escapes in them
    the bytes that those stand for.
    """
    try:
        data = orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    except orjson.JSONEncodeError:
        pass
    else:
        # orjson writes null for values that JSON lacks; responses contain no other null.
        if b"null" not in data:
            return data
    text = json.dumps(value, ensure_ascii=False, default=lambda array: array.tolist())
    return text.encode("utf-8", "surrogateescape")


def _check_rows(outputs: Mapping[str, NDArray[Any]]) -> None:
    expected = None
    # The order of a map of protobuf differs from process to process.
    for name, array in sorted(outputs.items()):
        if not array.ndim:
            raise invalid(f"Tensor name: {name} has no shape information ")
        if expected not in (None, array.shape[0]):
            raise invalid(
                f"Tensor name: {name} has inconsistent batch size: {array.shape[0]} "
                f"expecting: {expected}"
            )
        expected = array.shape[0]


def _plain(name: str, array: NDArray[Any]) -> Any:
    """An array that orjson can write and, unless a scalar, iterates by rows."""
    if array.dtype.kind == "O":
        return _strings(array, as_bytes=name.endswith("_bytes"))
    if array.dtype == np.float32:
        array = printed(array)
    if array.ndim <= 1 or not array.size:
        return array.tolist()
    return np.ascontiguousarray(array)


def _strings(array: NDArray[Any], *, as_bytes: bool) -> Any:
    out = np.empty(array.size, object)
    for index, item in enumerate(array.ravel()):
        if as_bytes:
            out[index] = {"b64": binascii.b2a_base64(item, newline=False).decode()}
        else:
            out[index] = item.decode("utf-8", "surrogateescape")
    return out.reshape(array.shape).tolist()
