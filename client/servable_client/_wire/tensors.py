"""Arrays as TensorProto and back.

The layout is that of tensorflow/core/framework/tensor.proto: `tensor_content` contains the elements
in row-major order and little-endian byte order, or else a typed field contains them.
"""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from servable_client._errors import InvalidInput
from servable_client._wire import wire_pb2 as wire

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

# Each fixed-size dtype with its typed field.
_FIELDS: dict[wire.DataType, tuple[type[np.generic], str]] = {
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
# The bytes of a tensor are little-endian on the wire.
WIRE_DTYPES = {
    int(data_type): np.dtype(kind).newbyteorder("<") for data_type, (kind, _) in _FIELDS.items()
}
_DT_STRING = int(wire.DT_STRING)
_DATA_TYPES = {np.dtype(kind): data_type for data_type, (kind, _) in _FIELDS.items()}

LITTLE = sys.byteorder == "little"

# A shape of any size is a few bytes on the wire: bound what it makes us allocate.
MAX_BYTES = 1 << 31
# Bytes that a short list of values is filled up to with its last one; a string takes dozens more
# than it has.
_MAX_FILLED, _STRING_BYTES = 64 << 20, 64
_FILL_LIMIT = "more than 64 MiB are not filled with the last one"


def numpy_dtype(data_type: wire.DataType) -> np.dtype[Any]:
    """The NumPy dtype of a DataType; object for strings, as bytes.

    Raises:
        InvalidInput: NumPy has none.
    """
    if data_type == wire.DT_STRING:
        return np.dtype(object)
    try:
        return np.dtype(_FIELDS[data_type][0])
    except KeyError:
        raise InvalidInput(f"tensors of type {data_type} are not supported") from None


def data_type_of(array: NDArray[Any]) -> wire.DataType:
    """The DataType of an array; text, bytes and objects are strings.

    Raises:
        InvalidInput: There is none.
    """
    if array.dtype.kind in "OSU":
        return wire.DT_STRING
    try:
        return _DATA_TYPES[array.dtype.newbyteorder("=")]
    except KeyError:
        raise InvalidInput(
            f"arrays of dtype {array.dtype} cannot be sent",
            hint="use a float, integer, bool, complex or string dtype",
        ) from None


def as_array(value: ArrayLike) -> NDArray[Any]:
    """Convert a value to an array; text and bytes become objects, unchanged."""
    array = np.asarray(value)
    if array.dtype.kind in "SU" and not isinstance(value, np.ndarray):
        # NumPy strings lose their trailing zero bytes.
        array = np.asarray(value, object)
    return array


def to_proto(value: ArrayLike) -> wire.TensorProto:
    """A tensor with the dtype and shape of `value`.

    Raises:
        InvalidInput: Its dtype is not supported, or strings and numbers are mixed.
    """
    proto = wire.TensorProto()
    fill_proto(proto, value)
    return proto


def fill_proto(proto: Any, value: ArrayLike) -> None:
    """Write `value` into an empty TensorProto, of this package or of TensorFlow.

    For a field of a larger message this avoids the copy that `CopyFrom` makes.

    Raises:
        InvalidInput: Its dtype is not supported, or strings and numbers are mixed.
    """
    array = as_array(value)
    data_type = data_type_of(array)
    proto.dtype = data_type
    proto.tensor_shape.SetInParent()  # a scalar has a shape too, an empty one
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    if data_type == wire.DT_STRING:
        proto.string_val.extend(map(as_bytes, array.ravel().tolist()))
    else:
        if array.dtype.byteorder == ">" or not LITTLE:
            array = array.astype(array.dtype.newbyteorder("<"), copy=False)
        proto.tensor_content = array.tobytes()


def as_bytes(item: object) -> bytes:
    """The bytes of an item of an array of strings.

    Raises:
        InvalidInput: It is neither text nor bytes.
    """
    if isinstance(item, bytes):
        return item
    if isinstance(item, str):
        return item.encode()
    raise InvalidInput(f"an array of strings contains a value of type {type(item).__name__}")


def from_proto(proto: wire.TensorProto) -> NDArray[Any]:
    """Convert a tensor to an array; read-only if it shares the memory of the message.

    As in TensorFlow, a typed field may contain fewer values than the shape has elements: the
    last value fills the rest, or zeros if there is none. Excess values are dropped.

    Raises:
        InvalidInput: The dtype is not supported, the shape is unknown or too large, the size of
            `tensor_content` does not match shape and dtype, or more than 64 MiB would be filled.
    """
    declared = proto.tensor_shape
    unknown_rank = declared.unknown_rank
    shape = [dim.size for dim in declared.dim]
    data_type, content = proto.dtype, proto.tensor_content
    # Two fast paths, since a response contains several tensors and each call waits for them.
    if not unknown_rank and (not shape or min(shape) >= 0):
        wire_dtype = WIRE_DTYPES.get(data_type)
        if wire_dtype is None:
            strings = proto.string_val
            if data_type == _DT_STRING and len(shape) == 1 and len(strings) == shape[0]:
                return np.array(list(strings), object)
        elif content and len(content) == math.prod(shape) * wire_dtype.itemsize:
            array = np.frombuffer(content, wire_dtype)
            return array if len(shape) == 1 else array.reshape(shape)
    dtype = numpy_dtype(data_type)
    if unknown_rank or any(size < 0 for size in shape):
        raise InvalidInput(f"a tensor's shape must be fully defined, got {shape}")
    count = math.prod(shape)
    if count * dtype.itemsize > MAX_BYTES:
        raise InvalidInput(f"a tensor of shape {shape} is too large")
    if dtype.kind == "O":
        missing = count - len(proto.string_val)
        each = max(len(proto.string_val[-1]) if proto.string_val else 0, _STRING_BYTES)
        if missing * each > _MAX_FILLED:
            raise InvalidInput(
                f"a tensor of shape {shape} has {len(proto.string_val)} strings: {_FILL_LIMIT}"
            )
        filled = np.empty(count, object)
        filled[:] = _filled(list(proto.string_val), count, b"")
        return filled.reshape(shape)
    if content:
        raise InvalidInput(
            f"a tensor of shape {shape} and dtype {dtype} must have "
            f"{count * dtype.itemsize} bytes, got {len(content)}"
        )
    field = getattr(proto, _FIELDS[data_type][1])
    if data_type == wire.DT_HALF:
        values = np.asarray(field, np.uint16).view(np.float16)
    elif dtype.kind == "c":
        # Real and imaginary parts alternate, as in the memory of NumPy.
        parts = np.asarray(field, np.float32 if dtype.itemsize == 8 else np.float64)
        values = parts[: len(parts) // 2 * 2].view(dtype)
    else:
        # Through the type of the field: an int_val may exceed the dtype, and wraps.
        values = np.asarray(field).astype(dtype) if len(field) else np.zeros(0, dtype)
    if len(values) == count:
        return values.reshape(shape)
    if (count - len(values)) * dtype.itemsize > _MAX_FILLED:
        raise InvalidInput(f"a tensor of shape {shape} has {len(values)} values: {_FILL_LIMIT}")
    out = np.zeros(count, dtype)
    out[: len(values)] = values[:count]
    if 0 < len(values) < count:
        out[len(values) :] = values[-1]
    return out.reshape(shape)


def _filled(values: list[bytes], count: int, nothing: bytes) -> list[bytes]:
    last = values[-1] if values else nothing
    return values[:count] + [last] * (count - len(values))
