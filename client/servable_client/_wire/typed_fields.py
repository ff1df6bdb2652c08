"""The typed fields of a TensorProto: `float_val`, `int_val` and so on.

TensorFlow's rules are those of ProtoHelper in tensorflow/core/framework/tensor.cc.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from servable_client._wire import wire_pb2 as wire
from servable_client._wire.dtypes import FIELDS, is_numpys, little
from servable_client._wire.varints import varint, varints

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Their elements are as in the memory of an array; those of the others are varints.
_AS_IN_MEMORY = {"float_val", "double_val", "scomplex_val", "dcomplex_val", "float8_val"}
_FEW = 64
# Each field's key on the wire: its number, and the wire type "length-delimited".
_KEYS = {
    name: varint(wire.TensorProto.DESCRIPTOR.fields_by_name[name].number << 3 | 2)
    for name in set(FIELDS.values())
}


def fill_field(proto: Any, data_type: int, array: NDArray[Any]) -> None:
    """Write the numbers of an array into the typed field of their DataType.

    Many as bytes on the wire: adding them one by one takes thirty times as long.

    Args:
        proto: A TensorProto, of this package or of TensorFlow.
        data_type: The DataType; not DT_STRING.
        array: Any shape, of the DataType's NumPy dtype.
    """
    if not array.size:
        return
    field = FIELDS[data_type]
    if field in _AS_IN_MEMORY:
        data = little(array).tobytes()
    else:
        integers = _integers(np.ascontiguousarray(array), field)
        if integers.size <= _FEW:
            getattr(proto, field).extend(integers.ravel().tolist())
            return
        data = varints(integers)
    proto.MergeFromString(b"".join((_KEYS[field], varint(len(data)), data)))


def read_field(proto: Any, data_type: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """The values in the typed field of a DataType.

    Args:
        proto: A TensorProto.
        data_type: The DataType; not DT_STRING.
        dtype: Its NumPy dtype.

    Returns:
        A flat array, of as many values as the field contains.
    """
    name = FIELDS[data_type]
    if name == "float8_val":
        return np.frombuffer(proto.float8_val, dtype)
    values = getattr(proto, name)[:]
    if not values:
        return np.zeros(0, dtype)
    if dtype.kind == "c":
        # Real and imaginary parts alternate, as in the memory of NumPy.
        parts = np.array(values, np.float32 if dtype.itemsize == 8 else np.float64)
        return parts[: len(parts) // 2 * 2].view(dtype)
    if name in {"float_val", "double_val", "bool_val"}:
        return np.array(values, dtype)
    # Through the type of the field: an int_val may exceed the dtype, and wraps. The rest is not
    # converted but the same bits: half floats, quantized integers, integers of four bits.
    wide = np.array(values, np.uint64 if name == "uint64_val" else np.int64)
    return wide.astype(f"u{dtype.itemsize}").view(dtype)


def _integers(array: NDArray[Any], field: str) -> NDArray[Any]:
    """An array as the integers that its field contains."""
    if field == "half_val":
        return array.view(np.uint16)
    if array.dtype.names is not None:  # quantized: a structure of one integer
        return array[array.dtype.names[0]]
    if not is_numpys(array.dtype):  # of four or two bits
        return array.astype(np.int8)
    return array
