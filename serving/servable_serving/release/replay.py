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
from servable_serving.mirror.answers import changed_rows, largest_difference, row_in_words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from servable_serving.gates.inspected_version import AnyModel
    from servable_serving.mirror.answers import Answer

# Of the latest requests; and the differences that are shown.
MAX_REQUESTS, MAX_EXAMPLES = 1000, 5


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
        changed, count = changed_rows(first, second)
        rows, differ = rows + count, differ + int(changed.sum())
        largest = max(largest, largest_difference(first, second))
        left = MAX_EXAMPLES - len(examples)
        examples += [
            Different(
                request=name, row=row, one=row_in_words(first, row), other=row_in_words(second, row)
            )
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


def _median(seconds: list[float]) -> float | None:
    return round(statistics.median(seconds) * 1000, 3) if seconds else None


def _modified(path: Path) -> tuple[int, str]:
    return path.stat().st_mtime_ns, path.name
