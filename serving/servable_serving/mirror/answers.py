"""Answers of two versions to one request: what they decide, and where they differ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from servable_client._wire.tensors import from_proto

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from servable_client._wire import wire_pb2 as wire

    # The outputs by name; the first dimension is the row.
    Answer = Mapping[str, NDArray[Any]]

# Outputs this close are the same: the order of a sum differs between batches and processors.
_RELATIVE, _ABSOLUTE = 1e-3, 1e-5
# An output that says what was decided, by which rows are compared if both versions have one.
_DECISIONS = ("label", "class_id", "labels")
_PROBABILITIES = "probabilities"
# How far from 1 the probabilities of a row may add up to: those of bfloat16 are coarse.
_SUM_ERROR = 0.02


def answer_of_proto(response: wire.PredictResponse) -> dict[str, NDArray[Any]]:
    """The outputs of a response over gRPC."""
    return {name: from_proto(tensor) for name, tensor in response.outputs.items()}


def answer_of_json(body: bytes) -> dict[str, NDArray[Any]]:
    """The outputs of a response over REST; the only output of a signature has an empty name.

    Raises:
        ValueError: It is not a response to Predict.
    """
    found = orjson.loads(body)
    columns, rows = (
        (found.get("outputs"), found.get("predictions"))
        if isinstance(found, dict)
        else (None, None)
    )
    if columns is not None:
        named = columns if isinstance(columns, dict) and "b64" not in columns else {"": columns}
        return {name: _array(values) for name, values in named.items()}
    if rows is None:
        raise ValueError("neither predictions nor outputs")
    if rows and isinstance(rows[0], dict) and "b64" not in rows[0]:
        return {name: _array([row[name] for row in rows]) for name in rows[0]}
    return {"": _array(rows)}


def inputs_of_json(body: bytes) -> dict[str, NDArray[Any]]:
    """The inputs of a request over REST; the only input of a signature has an empty name.

    Raises:
        ValueError: It is not a request to Predict.
    """
    found = orjson.loads(body)
    given = found.get("instances", found.get("inputs")) if isinstance(found, dict) else None
    if isinstance(given, dict):
        return {name: _array(values) for name, values in given.items()}
    if given is None:
        raise ValueError("neither instances nor inputs")
    if isinstance(given, list) and given and isinstance(given[0], dict) and "b64" not in given[0]:
        return {name: _array([row[name] for row in given]) for name in given[0]}
    return {"": _array(given)}


def _array(values: Any) -> NDArray[Any]:
    try:
        found = np.array(values)
    except ValueError:  # rows of different lengths
        found = np.array(values, object)
    return found if found.dtype.kind in "biufU" else np.array(_words(values), object)


def _words(values: Any) -> Any:
    return [str(value) for value in values] if isinstance(values, list) else str(values)


def decisions(*answers: Answer) -> list[NDArray[Any]] | None:
    """What some answers decide for each row, arrays of shape (rows,).

    That is the label or class, whichever all of them have; of probabilities alone, the most likely
    class. None if they have nothing of this in common.
    """
    for name in _DECISIONS:
        if all(name in answer and answer[name].ndim == 1 for answer in answers):
            return [answer[name] for answer in answers]
    found = [_probabilities(answer) for answer in answers]
    likely = [one.argmax(axis=1) for one in found if one is not None]
    return likely if len(likely) == len(answers) else None


def confidences(answer: Answer) -> NDArray[Any] | None:
    """The probability of the most likely class of each row, of shape (rows,); None without."""
    likely = _probabilities(answer)
    return None if likely is None else likely.max(axis=1)


def undecided(answer: Answer) -> list[str]:
    """The outputs that are neither labels, classes nor their probabilities."""
    likely = _probabilities(answer)
    return [
        name for name, array in answer.items() if name not in _DECISIONS and array is not likely
    ]


def _probabilities(answer: Answer) -> NDArray[Any] | None:
    if _PROBABILITIES in answer:
        found = answer[_PROBABILITIES]
        return found if found.ndim == 2 and found.size else None
    floats = [array for array in answer.values() if array.dtype.kind == "f"]
    if len(floats) != 1 or floats[0].ndim != 2 or floats[0].shape[1] < 2 or not floats[0].size:
        return None
    (found,) = floats
    are = (found >= 0).all() and (np.abs(found.sum(axis=1) - 1) < _SUM_ERROR).all()
    return found if are else None


def changed_rows(first: Answer, second: Answer) -> tuple[NDArray[np.bool_], int]:
    """Which rows differ, and their number.

    By what is decided if both decide something, else by all outputs that both have.
    """
    decided = decisions(first, second)
    if decided is None:
        pairs = [(first[name], second[name]) for name in first if name in second]
    else:
        pairs = [(decided[0], decided[1])]
    count = max((rows_of(one) for one, _ in pairs), default=1)
    changed = np.zeros(count, np.bool_)
    for one, other in pairs:
        if one.shape != other.shape:
            return np.ones(count, np.bool_), count
        same = (
            np.isclose(one, other, _RELATIVE, _ABSOLUTE, equal_nan=True)
            if one.dtype.kind in "fc" and other.dtype.kind in "fc"
            else np.asarray(one == other)
        )
        if same.ndim and len(same) == count:
            changed |= ~same.reshape(count, -1).all(axis=1)
        else:
            changed |= not same.all()
    return changed, count


def largest_difference(first: Answer, second: Answer) -> float:
    """The largest difference of a numeric output that both have; 0 without one."""
    found = [
        float(np.abs(first[name] - second[name]).max())
        for name in first
        if name in second
        and first[name].dtype.kind == second[name].dtype.kind == "f"
        and first[name].shape == second[name].shape
        and first[name].size
    ]
    return max(found, default=0.0)


def row_in_words(answer: Answer, row: int) -> str:
    """A row of an answer: its label or class with the probability, else its outputs."""
    decided, sure = decisions(answer), confidences(answer)
    if decided is None:
        return ", ".join(f"{name} {_cell(array, row)}".strip() for name, array in answer.items())
    return _cell(decided[0], row) + ("" if sure is None else f" {float(sure[row]):.2f}")


def _cell(array: NDArray[Any], row: int) -> str:
    value = array[row] if array.ndim else array[()]
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, str):
        return value
    return np.array2string(np.asarray(value), precision=3, threshold=6, edgeitems=2)


def rows_of(array: NDArray[Any]) -> int:
    """How many rows an output has; one of a scalar."""
    return len(array) if array.ndim else 1
