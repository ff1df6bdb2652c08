"""Encode a PredictRequest without building the message.

The elements of an array are copied once, from its memory into the request; a message would copy
them twice. The bytes before them depend on the model, the signature, and the dtype and shape of
the array, which rarely change between calls, so they are cached.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from servable_client._errors import InvalidInput
from servable_client._wire import wire_pb2 as wire
from servable_client._wire.dtypes import LITTLE, WIRE_DTYPES, data_type_of, is_numpys, little
from servable_client._wire.tensors import to_proto
from servable_client._wire.varints import varint

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from servable_client.types.operations import PredictOperation, Target

# NumPy's numeric dtypes, little-endian.
_AS_IS = {dtype for dtype in WIRE_DTYPES.values() if LITTLE}
# https://protobuf.dev/programming-guides/encoding/: a field number with its wire type, which
# is "length-delimited" for all of these.
_INPUTS, _KEY, _VALUE, _CONTENT = (bytes([number << 3 | 2]) for number in (2, 1, 2, 4))


def predict_body(operation: PredictOperation) -> bytes:
    """An operation as the bytes of a PredictRequest.

    Raises:
        InvalidInput: An array cannot be represented.
    """
    parts: list[Any] = [_head(operation.target, operation.signature, tuple(operation.outputs))]
    for name, array in operation.inputs.items():
        try:
            if array.dtype in _AS_IS and array.size and array.flags.c_contiguous:
                # Most arrays: the bytes of their memory are those of the tensor.
                parts += (_before(name, array.dtype, array.shape), array)
            elif array.dtype.kind in "OSU" or not array.size:
                tensor = to_proto(array).SerializeToString()
                parts += (_entry(name, len(tensor)), tensor)
            else:
                parts += (_before(name, array.dtype, array.shape), _elements(array))
        except InvalidInput as error:
            raise unsendable(name, error) from None
    return b"".join(parts)


def unsendable(name: str, error: InvalidInput) -> InvalidInput:
    """The error for an input, from that for its array."""
    named = InvalidInput(f"the input {name} cannot be sent: {error}", hint=error.hint)
    named.input = name
    return named


def fill_spec(spec: wire.ModelSpec, target: Target, signature: str = "") -> None:
    """Write a target into an empty ModelSpec."""
    spec.name = target.model
    if signature:
        spec.signature_name = signature
    if target.version is not None:
        spec.version.SetInParent()  # version 0 is an empty message
        spec.version.value = target.version
    elif target.label is not None:
        spec.version_label = target.label


@lru_cache(maxsize=256)
def _head(target: Target, signature: str, outputs: tuple[str, ...]) -> bytes:
    """The request without its inputs."""
    request = wire.PredictRequest(output_filter=outputs)
    fill_spec(request.model_spec, target, signature)
    return request.SerializeToString()


@lru_cache(maxsize=256)
def _before(name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """A numeric input up to its elements, which come last."""
    array = np.broadcast_to(np.zeros((), dtype), shape)
    tensor = wire.TensorProto(dtype=data_type_of(array))
    tensor.tensor_shape.SetInParent()  # a scalar has a shape too, an empty one
    for size in shape:
        tensor.tensor_shape.dim.add(size=size)
    head = tensor.SerializeToString() + _CONTENT + varint(array.nbytes)
    return _entry(name, len(head) + array.nbytes) + head


def _entry(name: str, size: int) -> bytes:
    """An entry of `inputs` up to its tensor of `size` bytes."""
    key = name.encode()
    entry = _KEY + varint(len(key)) + key + _VALUE + varint(size)
    return _INPUTS + varint(len(entry) + size) + entry


def _elements(array: NDArray[Any]) -> Any:
    """The elements in row-major order and little-endian, copied only if necessary."""
    array = np.ascontiguousarray(little(array))
    # The dtypes of ml_dtypes do not have Python's buffer protocol.
    return array if is_numpys(array.dtype) else array.tobytes()
