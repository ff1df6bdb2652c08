"""Tensors in JSON: https://www.tensorflow.org/tfx/serving/api_rest#predict_api.

The rules and the words are those of TensorFlow Serving's util/json_tensor.cc.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any, Protocol

from servable_serving.core.errors import ModelError, invalid
from servable_serving.server.json.arrays import dense, to_tensor, walk
from servable_serving.server.json.rapidjson_values import is_base64, pairs_of, show

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray


class TensorInfo(Protocol):
    """The declaration of an input: a signature's TensorInfo, ours or TensorFlow's."""

    @property
    def dtype(self) -> int:
        """The DataType."""


def read_inputs(
    request: Mapping[str, Any], inputs: Mapping[str, TensorInfo], signature: str = ""
) -> tuple[bool, dict[str, NDArray[Any]]]:
    """The inputs in a predict request.

    Args:
        request: The request's object, as `parse_body` gives it.
        inputs: The signature's inputs by name.
        signature: The signature's name in the request, for error messages.

    Returns:
        Whether they came in rows (`instances`), and arrays by name, strings as objects (bytes).
        In rows the first dimension is that of `instances`. Shapes are not checked against `inputs`.

    Raises:
        ModelError: The values do not fit the dtypes, each other or the names.
    """
    # A protobuf map raises at a key that is not valid UTF-8; in a dict it is just missing.
    inputs = dict(inputs)
    if not inputs:
        raise invalid(f"Failed to get input map for signature: {signature or 'DEFAULT'}")
    rows, columns = "instances" in request, "inputs" in request
    if rows and columns:
        raise invalid(
            f"JSON Value: {show(request)} Not formatted correctly expecting only one of "
            "'inputs' or 'instances' keys to exist "
        )
    if rows:
        instances = request["instances"]
        if not isinstance(instances, list):
            raise invalid(f"JSON Value: {show(request)} Expecting 'instances' to be an list/array")
        if not instances:
            raise invalid(f"JSON Value: {show(request)} No values in 'instances' array")
        return True, _rows(instances, inputs)
    if columns:
        return False, _columns(request["inputs"], inputs)
    raise invalid("Missing 'inputs' or 'instances' key")


def _rows(instances: list[Any], inputs: Mapping[str, TensorInfo]) -> dict[str, NDArray[Any]]:
    if not isinstance(instances[0], dict) and len(inputs) > 1:
        raise invalid(
            "instances is a plain list, but expecting list of objects as multiple input tensors "
            "required as per tensorinfo_map"
        )
    if not _is_named(instances[0]):
        name = min(inputs)
        quick = dense(instances, inputs[name].dtype)
        return {name: quick} if quick is not None else _walk_rows(instances, inputs)
    names = set(inputs)
    if names != {"b64"} and all(type(row) is dict and row.keys() == names for row in instances):
        out = {}
        for name in inputs:
            quick = dense([row[name] for row in instances], inputs[name].dtype)
            if quick is None:
                break
            out[name] = quick
        else:
            return out
    return _walk_rows(instances, inputs)


def _columns(given: Any, inputs: Mapping[str, TensorInfo]) -> dict[str, NDArray[Any]]:
    if not _is_named(given):
        if len(inputs) > 1:
            raise invalid(
                "inputs is a plain value/list, but expecting an object as multiple input tensors "
                "required as per tensorinfo_map"
            )
        ((name, info),) = inputs.items()
        return {name: _column(name, given, info)}
    out = {}
    for name in sorted(inputs):
        if name not in given:
            raise invalid(f"Missing named input: {name} in 'inputs' object.")
        out[name] = _column(name, given[name], inputs[name])
    return out


def _column(name: str, value: Any, info: TensorInfo) -> NDArray[Any]:
    if isinstance(value, list):
        quick = dense(value, info.dtype)
        if quick is not None:
            return quick
    shape, values = walk(value, info.dtype)
    return to_tensor(name, values, info.dtype, shape)


def _walk_rows(instances: list[Any], inputs: Mapping[str, TensorInfo]) -> dict[str, NDArray[Any]]:
    named = _is_named(instances[0])
    shapes: dict[str, list[int]] = {}
    columns: dict[str, list[Any]] = {}
    for index, row in enumerate(instances):
        if named != _is_named(row):
            seen = ("object", "list") if named else ("value/list", "object")
            raise invalid(f"Expecting {seen[0]} but got {seen[1]} at item {index} of input list")
        items = list(_members(row)) if named else [(min(inputs), row)]
        for name, value in items:
            try:
                _add_item(name, value, inputs, shapes, columns)
            except ModelError as error:
                key = f" key: {name}" if named else ""
                raise invalid(
                    f"Failed to process element: {index}{key} of 'instances' list. "
                    f"Error: {error.code}: {error.message}"
                ) from None
        if named and {name for name, _ in items} != set(inputs):
            raise invalid(
                f"Failed to process element: {index} of 'instances' list. JSON object: "
                f"{show(row)} keys must be equal to: {','.join(sorted(inputs))}"
            )
    return {
        name: to_tensor(name, values, inputs[name].dtype, [len(instances), *shapes[name]])
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
        raise invalid(f"JSON object: does not have named input: {name}")
    shape, values = walk(value, inputs[name].dtype)
    columns.setdefault(name, []).extend(values)
    expected = shapes.setdefault(name, shape)
    if prod(expected) != len(values):
        raise invalid(f"Expecting tensor size: {prod(expected)} but got: {len(values)}")
    if expected != shape:
        raise invalid(f"Expecting shape {_show_shape(expected)} but got: {_show_shape(shape)}")


def _members(row: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    # Names end at a zero byte, as C's strings do.
    return ((name.partition("\0")[0], value) for name, value in pairs_of(row))


def _is_named(value: Any) -> bool:
    """Whether a value is an object of named inputs, and not a base64 string."""
    return isinstance(value, dict) and not is_base64(value)


def _show_shape(shape: list[int]) -> str:
    return f"[{','.join(map(str, shape))}]"
