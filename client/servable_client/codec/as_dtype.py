"""Arrays of the dtypes that a signature takes, where no value is lost.

Lists of Python numbers become int64 or float64 in NumPy, which few models take.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from servable_client._errors import InvalidInput
from servable_client._wire import wire_pb2 as wire
from servable_client._wire.dtypes import data_type_of, numpy_dtype

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from servable_client.types.answers import Signature


# Kinds of dtypes that do not become one another, though a value may fit.
_REFUSED = {("f", "i"), ("f", "u")}


def as_declared(
    inputs: Mapping[str, NDArray[Any]], signature: Signature | None
) -> Mapping[str, NDArray[Any]]:
    """Inputs with the dtypes that a signature declares.

    Integers become other integers or floats, if they are in range and keep their value; floats are
    rounded to fewer bits, as long as they stay finite. Floats never become integers: pixels that
    were divided by 255 would be taken for pixels.

    Args:
        inputs: Arrays by name.
        signature: The signature; None if it is not known, and nothing is converted.

    Raises:
        InvalidInput: An array has another dtype, and values would be lost.
    """
    if signature is None:
        return inputs
    for name, array in inputs.items():
        declared = signature.inputs.get(name)
        if declared is not None and not has_dtype(array, declared.dtype):
            break
    else:
        return inputs
    return {
        name: _converted(name, array, signature.inputs[name].dtype)
        if name in signature.inputs
        else array
        for name, array in inputs.items()
    }


def has_dtype(array: NDArray[Any], dtype: str) -> bool:
    """Whether the dtype of an array is that of a DataType, by name."""
    return _name_of(array.dtype) == dtype


@lru_cache(maxsize=256)
def _name_of(dtype: np.dtype[Any]) -> str | None:
    try:
        return wire.DataType.Name(data_type_of(np.empty(0, dtype)))
    except InvalidInput:
        return None


def _converted(name: str, array: NDArray[Any], dtype: str) -> NDArray[Any]:
    try:
        number: Any = wire.DataType.Value(dtype)
        wanted = numpy_dtype(number)
    except (ValueError, InvalidInput):
        wanted = None
    # What NumPy has no dtype for is left to the server.
    if wanted is None or has_dtype(array, dtype):
        return array
    converted = _cast(array, wanted)
    if converted is None:
        error = InvalidInput(
            f"the input {name} takes {_plain(dtype)}, got {_described(array)}",
            hint=f"convert it: np.asarray(values, {'object' if wanted.kind == 'O' else wanted})",
            code="INVALID_ARGUMENT",
        )
        error.input = name
        raise error
    return converted


def _cast(array: NDArray[Any], wanted: np.dtype[Any]) -> NDArray[Any] | None:
    """The array as another dtype; None if a value would be lost."""
    if array.dtype == object and wanted.kind != "O":
        # A list of Python numbers beyond 64 bits, or of several kinds.
        return None
    kind = _kind(wanted)
    if array.dtype.kind not in "biuf" or kind not in "iufc":
        return None
    if array.size and (array.dtype.kind == "b" or (array.dtype.kind, kind) in _REFUSED):
        return None
    with np.errstate(all="ignore"):
        converted = array.astype(wanted)
    if array.dtype.kind == "f" and kind in "fc":
        finite = np.isfinite(array)
        return converted if np.isfinite(converted[finite]).all() else None
    if wanted.kind in "iu" and array.size:
        limits = np.iinfo(wanted)
        # As Python numbers: NumPy would compare int64 and uint64 as floats.
        if int(array.min()) < limits.min or int(array.max()) > limits.max:
            return None
    back = converted.real if wanted.kind == "c" else converted
    return converted if np.array_equal(back.astype(array.dtype), array) else None


def _kind(dtype: np.dtype[Any]) -> str:
    """The kind of a dtype; those of ml_dtypes, such as bfloat16 and int4, are void to NumPy."""
    if dtype.kind != "V" or dtype.fields is not None:
        return dtype.kind
    return "f" if "float" in dtype.name else dtype.name[0]


def _plain(dtype: str) -> str:
    return dtype.removeprefix("DT_").lower()


def _described(array: NDArray[Any]) -> str:
    if array.dtype.kind in "SU":
        return "text"
    said = f"{array.dtype} {list(array.shape)}"
    if array.dtype.kind in "iuf" and array.size:
        said += f" from {array.min():g} to {array.max():g}"
    return said
