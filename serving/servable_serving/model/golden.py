"""Golden requests: inputs whose answers were recorded when a model was exported.

A manifest has them as JSON: a tensor's dtype by its name in TensorFlow, its shape, and its values
in row-major order; strings are base64.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from servable_client import InvalidInput
from servable_client._wire import wire_pb2 as wire
from servable_client._wire.dtypes import data_type_of, is_numpys, numpy_dtype
from servable_client._wire.tensors import as_bytes
from servable_serving.repository.manifest import CandidateError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

# Sizes to try for a side of free length, such as a sequence's or an image's.
_FREE_SIDES = (8, 32, 224, 1)
# Golden requests are a part of the manifest, which people read.
_MOST_ELEMENTS = 20_000


@dataclass(frozen=True, kw_only=True)
class GoldenRequest:
    """A request whose answer is known.

    Attributes:
        signature: The name of the signature.
        inputs: Arrays by name.
        outputs: The arrays that were answered, by name.
    """

    signature: str
    inputs: Mapping[str, NDArray[Any]]
    outputs: Mapping[str, NDArray[Any]]

    def rest_inputs(self) -> dict[str, Any]:
        """The inputs as the "inputs" of a request over REST; strings are base64."""
        return {name: _for_rest(array) for name, array in self.inputs.items()}

    def difference(self, answers: Mapping[str, Any], tolerance: float) -> str | None:
        """How answers differ from the recorded ones; None if they are the same.

        Args:
            answers: Arrays or nested lists by name; more outputs than recorded may be there.
            tolerance: The most that a number may differ, relative to the output's largest, or
                absolute if all are below 1.
        """
        for name, expected in self.outputs.items():
            if name not in answers:
                return f"there is no {name}"
            found = _as(answers[name], expected)
            if found.shape != expected.shape:
                return f"{name} has the shape {list(found.shape)}, not {list(expected.shape)}"
            if expected.dtype.kind in "fc":
                apart = _apart(found, expected)
                if not apart <= tolerance:
                    return f"{name} is {apart:.2g} apart"
            elif not np.array_equal(found, expected):
                return f"{name} has other values"
        return None


def golden_request(
    signature: str, inputs: Mapping[str, NDArray[Any]], outputs: Mapping[str, NDArray[Any]]
) -> dict[str, Any]:
    """A golden request as JSON; one that is too large to read has neither inputs nor outputs."""
    size = sum(array.size for array in (*inputs.values(), *outputs.values()))
    if size > _MOST_ELEMENTS:
        return {"signature": signature, "inputs": {}, "outputs": {}}
    return {
        "signature": signature,
        "inputs": {name: _to_json(array) for name, array in sorted(inputs.items())},
        "outputs": {name: _to_json(array) for name, array in sorted(outputs.items())},
    }


def golden_requests(manifest: Mapping[str, Any]) -> list[GoldenRequest]:
    """The golden requests of a model that is not an image classifier.

    Raises:
        CandidateError: They cannot be read.
    """
    try:
        return [
            GoldenRequest(
                signature=str(one["signature"]),
                inputs={name: _from_json(value) for name, value in one["inputs"].items()},
                outputs={name: _from_json(value) for name, value in one["outputs"].items()},
            )
            for one in manifest.get("golden") or []
            if "png" not in one and one["inputs"]
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CandidateError(
            f"the golden requests in the manifest cannot be read: {error!r}",
            hint="export the candidate again",
        ) from error


def made_up_inputs(
    inputs: Mapping[str, Mapping[str, Any]], *, rows: int
) -> Iterator[dict[str, NDArray[Any]]]:
    """Inputs that fit what a signature declares, for sides of free length one length after another.

    Random numbers of 0 to 1, zeros for integers (which are often indices), and the string "text".

    Args:
        inputs: Each input's `dtype` and `shape`, as `contract_of` gives them.
        rows: The size of the first side, if it is free.
    """
    shapes = [info["shape"] for info in inputs.values()]
    free = any(side < 0 for shape in shapes for side in (shape or [])[1:])
    for length in _FREE_SIDES if free else _FREE_SIDES[:1]:
        random = np.random.default_rng(0)
        yield {
            name: _made_up(random, info["dtype"], _shape(info["shape"], rows, length))
            for name, info in sorted(inputs.items())
        }


def _shape(declared: Sequence[int] | None, rows: int, length: int) -> list[int]:
    if declared is None:
        return [rows]
    first = [rows if side < 0 else side for side in declared[:1]]
    return [*first, *(length if side < 0 else side for side in declared[1:])]


def _made_up(random: np.random.Generator, dtype: str, shape: Sequence[int]) -> NDArray[Any]:
    kind = _dtype(dtype)
    if kind.kind == "O":
        return np.full(shape, b"text", object)
    if kind.kind in "fc":
        return random.random(shape).astype(kind)
    return np.zeros(shape, kind)


def _dtype(name: str) -> np.dtype[Any]:
    dtype = numpy_dtype(wire.DataType.Value(name))
    if not is_numpys(dtype):
        raise InvalidInput(f"requests with tensors of type {name} cannot be recorded")
    return dtype


def _apart(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """The largest difference, relative to the largest number; NaN and infinities must agree."""
    if not expected.size:
        return 0.0
    finite = np.isfinite(expected)
    if not np.array_equal(finite, np.isfinite(found)):
        return float("inf")
    if not finite.any():
        return 0.0
    wide = np.complex128 if expected.dtype.kind == "c" else np.float64
    found, expected = found[finite].astype(wide), expected[finite].astype(wide)
    return float(np.abs(found - expected).max() / max(float(np.abs(expected).max()), 1.0))


def _as(value: Any, like: NDArray[Any]) -> NDArray[Any]:
    """An answer as an array of the recorded dtype; over REST it is lists, and strings are text."""
    if like.dtype.kind != "O":
        return np.asarray(value).astype(like.dtype)
    array = np.asarray(value, object)
    out = np.empty(array.shape, object)
    out.ravel()[:] = [_string(one) for one in array.ravel().tolist()]
    return out


def _string(value: Any) -> bytes:
    # The name of an output that ends in _bytes has REST answer in base64.
    return base64.b64decode(value["b64"]) if isinstance(value, dict) else as_bytes(value)


def _for_rest(array: NDArray[Any]) -> Any:
    if array.dtype.kind != "O":
        return array.tolist()
    if array.ndim == 0:
        return {"b64": base64.b64encode(as_bytes(array.item())).decode()}
    return [_for_rest(np.asarray(row, object)) for row in array]


def _to_json(array: NDArray[Any]) -> dict[str, Any]:
    values = array.ravel().tolist()
    if array.dtype.kind == "O":
        values = [base64.b64encode(as_bytes(one)).decode() for one in values]
    elif array.dtype.kind == "c":
        values = [[one.real, one.imag] for one in values]
    dtype = wire.DataType.Name(data_type_of(array))
    return {"dtype": dtype, "shape": list(array.shape), "values": values}


def _from_json(value: Mapping[str, Any]) -> NDArray[Any]:
    dtype = _dtype(value["dtype"])
    values = value["values"]
    if dtype.kind == "O":
        flat = np.empty(len(values), object)
        flat[:] = [base64.b64decode(one, validate=True) for one in values]
    elif dtype.kind == "c":
        flat = np.array([complex(*one) for one in values], dtype)
    else:
        flat = np.array(values, dtype)
    return flat.reshape(value["shape"])
