"""The DataTypes of TensorFlow: their NumPy dtypes, their typed fields and their names."""

from __future__ import annotations

import sys
from functools import cache
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from servable_client._errors import InvalidInput
from servable_client._extras import how_to_install
from servable_client._wire import wire_pb2 as wire

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

LITTLE = sys.byteorder == "little"

# The dtypes that NumPy has, with the field of a TensorProto that contains their values.
_NUMPY: dict[wire.DataType, tuple[type[np.generic], str]] = {
    wire.DT_FLOAT: (np.float32, "float_val"),
    wire.DT_DOUBLE: (np.float64, "double_val"),
    wire.DT_HALF: (np.float16, "half_val"),
    wire.DT_INT8: (np.int8, "int_val"),
    wire.DT_INT16: (np.int16, "int_val"),
    wire.DT_INT32: (np.int32, "int_val"),
    wire.DT_INT64: (np.int64, "int64_val"),
    wire.DT_UINT8: (np.uint8, "int_val"),
    wire.DT_UINT16: (np.uint16, "int_val"),
    wire.DT_UINT32: (np.uint32, "uint32_val"),
    wire.DT_UINT64: (np.uint64, "uint64_val"),
    wire.DT_BOOL: (np.bool_, "bool_val"),
    wire.DT_COMPLEX64: (np.complex64, "scomplex_val"),
    wire.DT_COMPLEX128: (np.complex128, "dcomplex_val"),
}
# Those of TensorFlow's Python API: a structure of one integer.
QUANTIZED: dict[wire.DataType, tuple[str, type[np.generic]]] = {
    wire.DT_QINT8: ("qint8", np.int8),
    wire.DT_QUINT8: ("quint8", np.uint8),
    wire.DT_QINT16: ("qint16", np.int16),
    wire.DT_QUINT16: ("quint16", np.uint16),
    wire.DT_QINT32: ("qint32", np.int32),
}
# Those of the package ml_dtypes, by name.
_EXTENDED: dict[wire.DataType, tuple[str, str]] = {
    wire.DT_BFLOAT16: ("bfloat16", "half_val"),
    wire.DT_FLOAT8_E5M2: ("float8_e5m2", "float8_val"),
    wire.DT_FLOAT8_E4M3FN: ("float8_e4m3fn", "float8_val"),
    wire.DT_FLOAT8_E4M3FNUZ: ("float8_e4m3fnuz", "float8_val"),
    wire.DT_FLOAT8_E4M3B11FNUZ: ("float8_e4m3b11fnuz", "float8_val"),
    wire.DT_FLOAT8_E5M2FNUZ: ("float8_e5m2fnuz", "float8_val"),
    wire.DT_INT4: ("int4", "int_val"),
    wire.DT_UINT4: ("uint4", "int_val"),
    wire.DT_INT2: ("int2", "int_val"),
    wire.DT_UINT2: ("uint2", "int_val"),
}
FIELDS: Mapping[int, str] = (
    {int(data_type): field for data_type, (_, field) in (_NUMPY | _EXTENDED).items()}
    | dict.fromkeys(map(int, QUANTIZED), "int_val")
    | {int(wire.DT_STRING): "string_val"}
)

# The bytes of a tensor are little-endian on the wire.
WIRE_DTYPES = {
    int(data_type): np.dtype(kind).newbyteorder("<") for data_type, (kind, _) in _NUMPY.items()
}
_DTYPES = {int(data_type): np.dtype(kind) for data_type, (kind, _) in _NUMPY.items()}
_DTYPES[int(wire.DT_STRING)] = np.dtype(object)
_DTYPES |= {int(data_type): np.dtype([field]) for data_type, field in QUANTIZED.items()}
# An array can stand for a tensor whose elements are objects of TensorFlow, but has no elements.
VARIANT = np.dtype([("variant", np.uint8)])
_DATA_TYPES = {dtype: wire.DataType(number) for number, dtype in _DTYPES.items()}
_DATA_TYPES[VARIANT] = wire.DT_VARIANT


def numpy_dtype(data_type: int) -> np.dtype[Any]:
    """The NumPy dtype of a DataType; object for strings, as bytes.

    Raises:
        InvalidInput: There is none, or ml_dtypes, which has it, is not installed.
    """
    found = _DTYPES.get(data_type)
    if found is None and data_type in _EXTENDED:
        found = _extended().get(data_type)
        if found is None:
            raise InvalidInput(
                f"tensors of type {type_name(data_type)} need ml_dtypes, in a recent version",
                hint=how_to_install("dtypes"),
            )
    if found is None:
        raise InvalidInput(f"tensors of type {type_name(data_type)} are not supported")
    return found


def data_type_of(array: NDArray[Any]) -> wire.DataType:
    """The DataType of an array; text, bytes and objects are strings.

    Raises:
        InvalidInput: There is none.
    """
    found = _DATA_TYPES.get(array.dtype)
    if found is not None:
        return found
    if array.dtype.kind in "SU":
        return wire.DT_STRING
    dtype = array.dtype.newbyteorder("=")
    found = _DATA_TYPES.get(dtype)
    if found is not None:
        return found
    for number, extended in _extended().items():
        if dtype == extended:
            return wire.DataType(number)
    raise InvalidInput(
        f"arrays of dtype {array.dtype} cannot be sent",
        hint="use a float, integer, bool, complex or string dtype",
    )


def is_numpys(dtype: np.dtype[Any]) -> bool:
    """Whether NumPy itself has a dtype; not those of ml_dtypes, nor quantized ones."""
    return dtype.type.__module__ == "numpy" and dtype.fields is None


def little(array: NDArray[Any]) -> NDArray[Any]:
    """The array in little-endian byte order; a copy only if it has another one."""
    if array.dtype.byteorder == ">" or not LITTLE:
        return array.astype(array.dtype.newbyteorder("<"), copy=False)
    return array


def type_name(data_type: int) -> str:
    """TensorFlow's name of a DataType, such as `half`."""
    if data_type not in wire.DataType.values():
        return f"unknown dtype enum ({data_type})"
    name = wire.DataType.Name(cast("wire.DataType", data_type))
    return name.removeprefix("DT_").lower()


@cache
def _extended() -> dict[int, np.dtype[Any]]:
    # Imported on first use: few tensors have these types.
    try:
        import ml_dtypes
    except ModuleNotFoundError:
        return {}
    return {
        int(data_type): np.dtype(getattr(ml_dtypes, name))
        for data_type, (name, _) in _EXTENDED.items()
        if hasattr(ml_dtypes, name)
    }
