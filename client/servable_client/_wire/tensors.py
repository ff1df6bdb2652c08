"""Arrays as TensorProto and back.

The layout is that of tensorflow/core/framework/tensor.proto: `tensor_content` contains the elements
in row-major order and little-endian byte order, or else a typed field contains them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from servable_client._errors import InvalidInput
from servable_client._wire import wire_pb2 as wire
from servable_client._wire.dtypes import WIRE_DTYPES, data_type_of, little, numpy_dtype
from servable_client._wire.typed_fields import fill_field, read_field
from servable_client._wire.varints import read_varints

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

_DT_STRING = int(wire.DT_STRING)

# A shape of any size is a few bytes on the wire: bound what it makes us allocate.
MAX_BYTES = 1 << 31
# TensorFlow's bounds of a shape, and NumPy's of its rank.
_MOST_DIMENSIONS, _MOST_ELEMENTS, MAX_RANK = 254, 1 << 63, 64
# Bytes that a short list of values is filled up to with its last one; a string takes dozens more
# than it has.
_MAX_FILLED, _STRING_BYTES = 64 << 20, 64
_FILL_LIMIT = "more than 64 MiB are not filled with the last one"


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


def fill_proto(proto: Any, value: ArrayLike, *, typed: bool = False) -> None:
    """Write `value` into an empty TensorProto, of this package or of TensorFlow.

    For a field of a larger message this avoids the copy that `CopyFrom` makes.

    Args:
        proto: The TensorProto.
        value: Any shape and any supported dtype.
        typed: Whether numbers go into the typed field, as servers write them, and not into
            `tensor_content`.

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
    elif typed:
        fill_field(proto, data_type, array)
    else:
        proto.tensor_content = little(array).tobytes()


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

    As in TensorFlow, an unknown rank is that of the dimensions given, none by default, and a typed
    field may contain fewer values than the shape has elements: the last value fills the rest, or
    zeros if there is none. Excess values are dropped.

    Raises:
        InvalidInput: The dtype is not supported, the shape is too large, the size of
            `tensor_content` does not match shape and dtype, or more than 64 MiB would be filled.
    """
    shape = [dim.size for dim in proto.tensor_shape.dim]
    data_type, content = proto.dtype, proto.tensor_content
    # Two fast paths, since a response contains several tensors and each call waits for them.
    if len(shape) <= MAX_RANK and (not shape or min(shape) >= 0):
        wire_dtype = WIRE_DTYPES.get(data_type)
        if wire_dtype is None:
            if data_type == _DT_STRING and not content and len(shape) == 1:
                strings = proto.string_val
                if len(strings) == shape[0]:
                    return np.array(list(strings), object)
        elif content and len(content) == math.prod(shape) * wire_dtype.itemsize:
            array = np.frombuffer(content, wire_dtype)
            return array if len(shape) == 1 else array.reshape(shape)
    dtype = numpy_dtype(data_type)
    count = count_elements(shape)
    if len(shape) > MAX_RANK:
        raise InvalidInput(f"an array has at most {MAX_RANK} dimensions, the tensor {len(shape)}")
    if count * dtype.itemsize > MAX_BYTES:
        raise InvalidInput(f"a tensor of shape {shape} is too large")
    if not count:
        try:
            return np.empty(shape, dtype)
        except ValueError:  # NumPy bounds the product of the other sizes
            raise InvalidInput(f"a tensor of shape {shape} is too large") from None
    if dtype.kind == "O":
        return _strings(proto, shape, count)
    if content:
        if len(content) != count * dtype.itemsize:
            raise InvalidInput(
                f"a tensor of shape {shape} and dtype {dtype} must have "
                f"{count * dtype.itemsize} bytes, got {len(content)}"
            )
        return np.frombuffer(content, dtype.newbyteorder("<")).reshape(shape)
    values = read_field(proto, data_type, dtype)
    if len(values) == count:
        return values.reshape(shape)
    if (count - len(values)) * dtype.itemsize > _MAX_FILLED:
        raise InvalidInput(f"a tensor of shape {shape} has {len(values)} values: {_FILL_LIMIT}")
    out = np.zeros(count, dtype)
    out[: len(values)] = values[:count]
    if 0 < len(values) < count:
        out[len(values) :] = values[-1]
    return out.reshape(shape)


def count_elements(shape: Sequence[int]) -> int:
    """The number of elements of a shape, checked as TensorFlow does.

    Raises:
        InvalidInput: It has too many dimensions, a negative one, or too many elements up to one.
    """
    count = 1
    for size in shape:
        count *= size
        if size < 0 or count >= _MOST_ELEMENTS:
            raise InvalidInput(f"a tensor's shape must be fully defined, got {list(shape)}")
    if len(shape) > _MOST_DIMENSIONS:
        raise InvalidInput(f"a tensor has at most {_MOST_DIMENSIONS} dimensions, got {len(shape)}")
    return count


def _strings(proto: wire.TensorProto, shape: list[int], count: int) -> NDArray[Any]:
    if proto.tensor_content:
        found = _strings_in(proto.tensor_content, count)
    else:
        found = list(proto.string_val[:count])
    missing = count - len(found)
    each = max(len(found[-1]) if found else 0, _STRING_BYTES)
    if missing * each > _MAX_FILLED:
        raise InvalidInput(f"a tensor of shape {shape} has {len(found)} strings: {_FILL_LIMIT}")
    array = np.empty(count, object)
    array[:] = found + [found[-1] if found else b""] * missing
    return array.reshape(shape)


def _strings_in(content: bytes, count: int) -> list[bytes]:
    """Strings in `tensor_content`: their sizes as varints, then their bytes."""
    sizes, at = read_varints(content, count)
    if at + sum(sizes) != len(content):
        raise InvalidInput(f"the content of a tensor is not that of {count} strings")
    found = []
    for size in sizes:
        found.append(content[at : at + size])
        at += size
    return found
