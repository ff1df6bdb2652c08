"""Tensors in JSON: https://www.tensorflow.org/tfx/serving/api_rest#predict_api.

The rules and the words are those of TensorFlow Serving's util/json_tensor.cc as it answers.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from servable_client._tensors import numpy_dtype
from servable_serving._saved_model import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from servable_client._wire import wire_pb2 as wire

# What numbers a dtype takes: NumPy's kinds, smallest and largest.
_WRAPS = (np.dtype(np.uint8), np.dtype(np.int8), np.dtype(np.uint16), np.dtype(np.int16))


class _RejectedError(ValueError):
    """A value that a tensor cannot take; the caller knows where it stood."""


def first_keys(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose first key wins where one comes twice, as RapidJSON reads it."""
    out: dict[str, Any] = {}
    for key, value in pairs:
        out.setdefault(key, value)
    return out


_DECODER = json.JSONDecoder(object_pairs_hook=first_keys)


def parse_body(body: bytes) -> dict[str, Any]:
    """The object in a request's body; what comes after it is passed over.

    Raises:
        ModelError: There is none.
    """
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise _invalid(
            f"JSON Parse error: Invalid encoding in string. at offset: {error.start}"
        ) from None
    text = text.lstrip(" \t\r\n")
    if not text:
        raise _invalid("JSON Parse error: The document is empty")
    try:
        value, _ = _DECODER.raw_decode(text)
    except json.JSONDecodeError as error:
        raise _invalid(f"JSON Parse error: {error.msg}. at offset: {error.pos}") from None
    except RecursionError:
        raise _invalid("JSON Parse error: nested too deeply") from None
    except ValueError as error:
        # Python reads no integer of more than 4,300 digits.
        raise _invalid(f"JSON Parse error: {error}") from None
    if not isinstance(value, dict):
        raise _invalid(f"JSON Value: {show(value)} Is not object")
    return value


def read_inputs(
    request: Mapping[str, Any], inputs: Mapping[str, wire.TensorInfo]
) -> tuple[bool, dict[str, NDArray[Any]]]:
    """The inputs in a predict request.

    Returns:
        Whether they came in rows (`instances`), and arrays by name.

    Raises:
        ModelError: They do not fit `inputs`.
    """
    rows, columns = "instances" in request, "inputs" in request
    if rows and columns:
        raise _invalid(
            f"JSON Value: {show(request)} Not formatted correctly expecting only one of "
            "'inputs' or 'instances' keys to exist "
        )
    if rows:
        return True, _read_rows(request, request["instances"], inputs)
    if columns:
        return False, _read_columns(request["inputs"], inputs)
    raise _invalid("Missing 'inputs' or 'instances' key")


def _read_rows(
    request: Mapping[str, Any], instances: Any, inputs: Mapping[str, wire.TensorInfo]
) -> dict[str, NDArray[Any]]:
    if not isinstance(instances, list):
        raise _invalid(f"JSON Value: {show(request)} Expecting 'instances' to be an list/array")
    if not instances:
        raise _invalid(f"JSON Value: {show(request)} No values in 'instances' array")
    if not _is_named(instances[0]):
        if len(inputs) > 1:
            raise _invalid(
                "instances is a plain list, but expecting list of objects as multiple input "
                "tensors required as per tensorinfo_map"
            )
        ((name, info),) = inputs.items()
        return {name: _stack(instances, info)}
    columns: dict[str, list[Any]] = {name: [] for name in inputs}
    for index, instance in enumerate(instances):
        where = f"Failed to process element: {index}"
        if not _is_named(instance):
            raise _invalid(
                f"{where} of 'instances' list. JSON Value: {show(instance)} Is not object"
            )
        for key, value in instance.items():
            if key not in inputs:
                raise _invalid(
                    f"{where} key: {key} of 'instances' list. Error: INVALID_ARGUMENT: "
                    f"JSON object: does not have named input: {key}"
                )
            columns[key].append(value)
        if len(instance) != len(inputs):
            raise _invalid(
                f"{where} of 'instances' list. JSON object: {show(instance)} keys must be equal "
                f"to: {','.join(sorted(inputs))}"
            )
    return {name: _stack(values, inputs[name], key=name) for name, values in columns.items()}


def _read_columns(given: Any, inputs: Mapping[str, wire.TensorInfo]) -> dict[str, NDArray[Any]]:
    if _is_named(given):
        missing = sorted(set(inputs) - set(given))
        if missing:
            raise _invalid(f"Missing named input: {missing[0]} in 'inputs' object.")
        columns = {name: given[name] for name in inputs}
    elif len(inputs) > 1:
        raise _invalid(
            "inputs is a plain value/list, but expecting an object as multiple input tensors "
            "required as per tensorinfo_map"
        )
    else:
        columns = dict.fromkeys(inputs, given)
    try:
        return {name: _array(value, inputs[name]) for name, value in columns.items()}
    except _RejectedError as error:
        raise _invalid(str(error)) from None


def _stack(rows: list[Any], info: wire.TensorInfo, *, key: str = "") -> NDArray[Any]:
    """Rows as one tensor; an error names the row."""
    try:
        return _array(rows, info)
    except _RejectedError:
        pass
    # Once more, row by row, to find the one that was to blame.
    shape = None
    for index, row in enumerate(rows):
        try:
            array = _array(row, info)
            if shape not in (None, array.shape):
                raise _RejectedError(
                    f"Expecting tensor size: {np.prod(shape, dtype=int)} but got: {array.size}"
                )
            shape = array.shape
        except _RejectedError as error:
            named = f" key: {key}" if key else ""
            raise _invalid(
                f"Failed to process element: {index}{named} of 'instances' list. "
                f"Error: INVALID_ARGUMENT: {error}"
            ) from None
    raise AssertionError("the rows fit one by one, and not together")


def _array(value: Any, info: wire.TensorInfo) -> NDArray[Any]:
    dtype = numpy_dtype(info.dtype)
    shape: list[int] = []
    inner = value
    while isinstance(inner, list):
        shape.append(len(inner))
        inner = inner[0] if inner else None
    flat: list[Any] = []
    _flatten(value, tuple(shape), flat, dtype)
    if dtype.kind == "O":
        strings = np.empty(len(flat), object)
        strings[:] = flat
        return strings.reshape(shape)
    if dtype in _WRAPS:
        return np.array(flat, np.int64).astype(dtype).reshape(shape)
    with np.errstate(over="ignore"):  # 1e39 is Infinity in float32
        return (
            np.array(flat, np.float64 if dtype.kind == "f" else dtype).astype(dtype).reshape(shape)
        )


def _flatten(value: Any, shape: tuple[int, ...], out: list[Any], dtype: np.dtype[Any]) -> None:
    if not shape:
        out.append(_scalar(value, dtype))
    elif not isinstance(value, list):
        raise _RejectedError(f"Expecting tensor size: {shape[0]} but got: 1")
    elif len(value) != shape[0]:
        raise _RejectedError(f"Expecting tensor size: {shape[0]} but got: {len(value)}")
    elif len(shape) == 1 and dtype.kind in "fiu" and _all_numbers(value, dtype):
        out.extend(value)
    else:
        for item in value:
            _flatten(item, shape[1:], out, dtype)


def _all_numbers(values: list[Any], dtype: np.dtype[Any]) -> bool:
    """Whether a list holds nothing but what the dtype takes; the fast way for pictures."""
    kinds = set(map(type, values))
    if dtype.kind == "f":
        return kinds <= {int, float}
    return kinds <= {int} and (
        not values or (_fits(min(values), dtype) and _fits(max(values), dtype))
    )


def _scalar(value: Any, dtype: np.dtype[Any]) -> Any:
    if dtype.kind == "O":
        if isinstance(value, str):
            return value.encode("utf-8", "surrogatepass")
        if isinstance(value, dict) and isinstance(value.get("b64"), str) and len(value) == 1:
            return _base64(value["b64"])
    elif dtype.kind == "b":
        if isinstance(value, bool):
            return value
    elif isinstance(value, bool):
        pass
    elif dtype.kind == "f":
        if isinstance(value, int | float):
            return float(value) if abs(value) < 1 << 64 else np.inf * (1 if value > 0 else -1)
    elif isinstance(value, int) and _fits(value, dtype):
        return value
    name = dtype.name.replace("float32", "float").replace("float64", "double")
    raise _RejectedError(
        f"JSON Value: {show(value)} Type: {_kind(value)} is not of expected type: "
        f"{'string' if dtype.kind == 'O' else name}"
    )


def _fits(value: int, dtype: np.dtype[Any]) -> bool:
    # TensorFlow Serving reads the small types as int32 and drops the upper bits.
    limits = np.iinfo(np.int32 if dtype in _WRAPS else dtype)
    return int(limits.min) <= value <= int(limits.max)


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise _RejectedError("Unable to base64 decode") from None


def _is_named(value: Any) -> bool:
    """Whether a value is an object of named inputs, and not a base64 string."""
    return isinstance(value, dict) and not (len(value) == 1 and isinstance(value.get("b64"), str))


def write_outputs(outputs: Mapping[str, NDArray[Any]], *, rows: bool) -> bytes:
    """The body of an answer.

    Raises:
        ModelError: In rows, where the outputs have not the same number of them.
    """
    values = {name: _plain(name, array) for name, array in outputs.items()}
    if not rows:
        answer = next(iter(values.values())) if len(values) == 1 else values
        return dump({"outputs": answer})
    sizes = {array.shape[0] if array.ndim else None for array in outputs.values()}
    if len(outputs) == 1 and None in sizes:
        return dump({"predictions": next(iter(values.values()))})
    if len(sizes) != 1 or None in sizes:
        raise ModelError(
            "INVALID_ARGUMENT",
            "the outputs differ in their first dimension, and cannot be put into rows",
        )
    if len(values) == 1:
        return dump({"predictions": next(iter(values.values()))})
    names = list(values)
    return dump(
        {
            "predictions": [
                dict(zip(names, row, strict=True)) for row in zip(*values.values(), strict=True)
            ]
        }
    )


def _plain(name: str, array: NDArray[Any]) -> Any:
    if array.dtype.kind != "O":
        # A float32 with as many digits as tell it apart, and not as the float64 it widens to.
        return (
            array.astype(str).astype(np.float64).tolist()
            if array.dtype == np.float32
            else array.tolist()
        )
    as_base64 = name.endswith("_bytes")
    out = np.empty(array.shape, object)
    for index, item in np.ndenumerate(array):
        out[index] = (
            {"b64": base64.b64encode(item).decode()}
            if as_base64
            else item.decode("utf-8", "replace")
        )
    return out.tolist()


def dump(value: Any) -> bytes:
    """JSON as TensorFlow Serving writes it: NaN and Infinity as bare words."""
    data = orjson.dumps(value)
    # orjson writes null for what JSON has no word for; an answer holds no other null.
    return json.dumps(value, ensure_ascii=False).encode() if b"null" in data else data


def _invalid(message: str) -> ModelError:
    return ModelError("INVALID_ARGUMENT", message)


def _kind(value: Any) -> str:
    if value is None:
        return "Null"
    if isinstance(value, bool):
        return str(value)
    for kind, name in ((str, "String"), (dict, "Object"), (list, "Array")):
        if isinstance(value, kind):
            return name
    return "Number"


def show(value: Any) -> str:
    """A value as RapidJSON's PrettyWriter writes it: arrays of plain values on one line."""
    try:
        return _pretty(value, 0)
    except RecursionError:
        return "..."


def _pretty(value: Any, depth: int) -> str:
    if isinstance(value, dict) and value:
        inner = " " * 4 * (depth + 1)
        items = (f"{inner}{json.dumps(k)}: {_pretty(v, depth + 1)}" for k, v in value.items())
        return "{\n" + ",\n".join(items) + "\n" + " " * 4 * depth + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_pretty(item, depth) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False)
