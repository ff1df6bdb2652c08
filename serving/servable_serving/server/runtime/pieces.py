"""Large requests in pieces, on several threads, for graphs that are run on one thread each.

A run on one thread costs a third of the CPU time of one whose ops are spread over all cores, where
it has few rows: threads are not woken for microseconds of work. A request of many rows keeps its
parallelism by being cut up, and its pieces fit the processor's cache.
"""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[Any]]
    Run = Callable[[Arrays], dict[str, NDArray[Any]]]

# Rows of a piece: at least, so that it is worth a thread, and at most.
FEWEST_ROWS, MOST_ROWS = 16, 64


def pieces_of(rows: int, cores: int) -> int:
    """In how many pieces a request of some rows is cut."""
    return max(-(-rows // MOST_ROWS), min(cores, rows // FEWEST_ROWS), 1)


def run_in_pieces(
    run: Run, inputs: Arrays, *, most_rows: float = math.inf
) -> dict[str, NDArray[Any]]:
    """Run a request whose rows do not depend on each other.

    Args:
        run: Runs some of its rows.
        inputs: Arrays of shape [rows, ...] by name, of as many rows each; not text, whose limits
            are those of a request.
        most_rows: A request of more is not cut: the graph refuses it.

    Raises:
        ModelError: `run` failed.
    """
    rows = {array.shape[0] if array.ndim else None for array in inputs.values()}
    count = rows.pop() if len(rows) == 1 else None
    numeric = all(array.dtype.kind in "biuf" for array in inputs.values())
    if not count or not numeric or count > most_rows:
        return run(inputs)
    pieces = pieces_of(count, os.cpu_count() or 1)
    if pieces == 1:
        return run(inputs)
    edges = [count * place // pieces for place in range(pieces + 1)]
    parts = [
        {name: array[first:end] for name, array in inputs.items()} for first, end in pairwise(edges)
    ]
    rest = [_pool().submit(run, part) for part in parts[1:]]
    try:
        answers = [run(parts[0]), *(future.result() for future in rest)]
    finally:
        for future in rest:
            future.cancel()  # after an error; without an effect on one that runs
    for answer, (first, end) in zip(answers, pairwise(edges), strict=True):
        if any(array.ndim == 0 or len(array) != end - first for array in answer.values()):
            return run(inputs)  # an output that is not by rows
    return {name: np.concatenate([one[name] for one in answers]) for name in answers[0]}


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="pieces")
