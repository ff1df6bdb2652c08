"""Two versions' answers to requests that were kept: see `--log_requests_to` of `servable serve`."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from google.protobuf.message import DecodeError

from servable_client import InvalidInput
from servable_client._wire import wire_pb2 as wire
from servable_client._wire.tensors import from_proto
from servable_serving.core.errors import FolderError, ModelError
from servable_serving.core.names import DEFAULT_SIGNATURE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from servable_serving.gates.inspected_version import AnyModel

    Answer = Mapping[str, NDArray[Any]]

# Of the latest requests; and the differences that are shown.
MAX_REQUESTS, MAX_EXAMPLES = 1000, 5
# Outputs this close are the same: the order of a sum differs between batches and processors.
_RELATIVE, _ABSOLUTE = 1e-3, 1e-5
# An output that says what was decided, by which rows are compared if both versions have one.
_DECISIONS = ("label", "class_id", "labels")


@dataclass(frozen=True, kw_only=True)
class Different:
    """A row that two versions answer differently.

    Attributes:
        request: The file of the request, and its position there.
        row: The row, from 0.
        one: The first version's answer, in words.
        other: The second's.
    """

    request: str
    row: int
    one: str
    other: str


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """How two versions answer the same requests.

    Attributes:
        requests: How many were asked.
        rows: The rows of those that both answered.
        differ: How many of them are answered differently: by the label or class if both versions
            have one, else by any output.
        failed: How many requests each version refuses.
        largest: The largest difference of a numeric output that both have.
        milliseconds: The median time of a request, of each version; None if it refused all.
        examples: Some of the rows that differ.
    """

    requests: int
    rows: int
    differ: int
    failed: tuple[int, int]
    largest: float
    milliseconds: tuple[float | None, float | None]
    examples: list[Different]


def kept_requests(where: Path, read: Callable[[Path], Iterator[bytes]]) -> list[tuple[str, Any]]:
    """The latest Predict requests of a file or of all in a folder, with their names.

    Args:
        where: The file, or the folder.
        read: Reads the records of a file.

    Raises:
        FolderError: There is none, or a file is damaged.
    """
    if not where.exists():
        raise FolderError(
            f"{where} does not exist", hint="--requests takes a file or folder of kept requests"
        )
    paths = [where] if where.is_file() else sorted(where.rglob("[!.]*.tfrecord"), key=_modified)
    found: list[tuple[str, Any]] = []
    for path in reversed(paths):
        logs: list[wire.PredictionLog] = []
        try:
            logs += map(wire.PredictionLog.FromString, read(path))
        except (ModelError, DecodeError) as error:
            if not logs:  # else the server was killed while it wrote the last one
                raise FolderError(
                    f"{path} is not a file of kept requests: {error}",
                    hint="a server that runs with --log_requests_to writes them",
                ) from None
        found += [
            (f"{path.name}:{number}", log.predict_log.request)
            for number, log in enumerate(logs)
            if log.HasField("predict_log")
        ]
        if len(found) >= MAX_REQUESTS:
            break
    if not found:
        raise FolderError(
            f"there are no Predict requests in {where}",
            hint="a server that runs with --log_requests_to keeps them",
        )
    return found[:MAX_REQUESTS]


def replay(one: AnyModel, other: AnyModel, requests: list[tuple[str, Any]]) -> Replayed:
    """Ask two versions the same requests.

    Args:
        one: A version.
        other: Another.
        requests: As `kept_requests` gives them.
    """
    rows = differ = 0
    largest, failed = 0.0, [0, 0]
    times: tuple[list[float], list[float]] = ([], [])
    examples: list[Different] = []
    for name, request in requests:
        signature = request.model_spec.signature_name or DEFAULT_SIGNATURE
        answers: list[Answer | None] = []
        for index, version in enumerate((one, other)):
            began = time.perf_counter()
            try:
                inputs = {key: from_proto(tensor) for key, tensor in request.inputs.items()}
                answers.append(version.ask(signature, inputs))
            except (ModelError, InvalidInput):
                failed[index] += 1
                answers.append(None)
            else:
                times[index].append(time.perf_counter() - began)
        first, second = answers
        if first is None or second is None:
            continue
        changed, count = _changed(first, second)
        rows, differ = rows + count, differ + int(changed.sum())
        largest = max(largest, _largest(first, second))
        left = MAX_EXAMPLES - len(examples)
        examples += [
            Different(request=name, row=row, one=_told(first, row), other=_told(second, row))
            for row in islice(map(int, np.flatnonzero(changed)), left)
        ]
    return Replayed(
        requests=len(requests),
        rows=rows,
        differ=differ,
        failed=(failed[0], failed[1]),
        largest=largest,
        milliseconds=(_median(times[0]), _median(times[1])),
        examples=examples,
    )


def _changed(first: Answer, second: Answer) -> tuple[NDArray[np.bool_], int]:
    """Which rows differ, and their number."""
    shared = [name for name in first if name in second]
    decided = next((name for name in _DECISIONS if name in shared), None)
    compared = shared if decided is None else [decided]
    count = max((_rows(first[name]) for name in compared), default=1)
    changed = np.zeros(count, np.bool_)
    for name in compared:
        one, other = first[name], second[name]
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


def _largest(first: Answer, second: Answer) -> float:
    found = [
        float(np.abs(first[name] - second[name]).max())
        for name in first
        if name in second
        and first[name].dtype.kind == second[name].dtype.kind == "f"
        and first[name].shape == second[name].shape
        and first[name].size
    ]
    return max(found, default=0.0)


def _told(answer: Answer, row: int) -> str:
    """A row of an answer in words: its label or class with the probability, else its outputs."""
    decided = next((name for name in _DECISIONS if name in answer), None)
    if decided is None:
        return ", ".join(f"{name} {_cell(array, row)}" for name, array in answer.items())
    likely = answer.get("probabilities")
    sure = "" if likely is None or likely.ndim != 2 else f" {float(likely[row].max()):.2f}"
    return f"{_cell(answer[decided], row)}{sure}"


def _cell(array: NDArray[Any], row: int) -> str:
    value = array[row] if array.ndim else array[()]
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return np.array2string(np.asarray(value), precision=3, threshold=6, edgeitems=2)


def _rows(array: NDArray[Any]) -> int:
    return len(array) if array.ndim else 1


def _median(seconds: list[float]) -> float | None:
    return round(statistics.median(seconds) * 1000, 3) if seconds else None


def _modified(path: Path) -> tuple[int, str]:
    return path.stat().st_mtime_ns, path.name
