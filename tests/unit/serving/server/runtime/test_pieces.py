"""Large requests in pieces, with a run that needs no graph."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from servable_serving.core.errors import ModelError
from servable_serving.server.runtime.pieces import MOST_ROWS, pieces_of, run_in_pieces

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[Any]]


class Doubles:
    """Doubles x, and keeps how many rows each run had."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def __call__(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        self.rows.append(len(inputs["x"]))
        return {"y": inputs["x"] * 2, "row": np.arange(len(inputs["x"]))}


@pytest.mark.parametrize(
    ("rows", "cores", "pieces"),
    [(0, 2, 1), (1, 2, 1), (31, 2, 1), (32, 2, 2), (64, 2, 2), (64, 8, 4), (129, 2, 3),
     (2048, 2, 32), (2048, 128, 128), (15, 64, 1)],
)  # fmt: skip
def test_pieces_are_worth_a_thread_and_fit_the_cache(rows: int, cores: int, pieces: int) -> None:
    assert pieces_of(rows, cores) == pieces


@given(st.integers(1, 700))
def test_the_answer_is_that_of_the_whole(rows: int) -> None:
    run, x = Doubles(), np.arange(rows * 3).reshape(rows, 3)
    found = run_in_pieces(run, {"x": x})
    assert (found["y"] == x * 2).all()
    assert sum(run.rows) == rows
    assert max(run.rows) <= MOST_ROWS


@pytest.mark.parametrize(
    "inputs",
    [
        {"x": np.zeros((100, 2)), "z": np.zeros((50, 2))},  # of different rows
        {"x": np.array([b"text"] * 100, object)},
        {"x": np.zeros((500, 2))},  # more than the graph accepts
    ],
)
def test_what_is_not_cut(inputs: dict[str, NDArray[Any]]) -> None:
    run = Doubles()
    run_in_pieces(run, inputs, most_rows=400)
    assert run.rows == [len(inputs["x"])]


def test_an_output_that_is_not_by_rows_is_that_of_the_whole() -> None:
    def mean(inputs: Arrays) -> dict[str, NDArray[Any]]:
        return {"mean": inputs["x"].mean(keepdims=True)[0]}

    x = np.arange(300.0)[:, None]
    assert run_in_pieces(mean, {"x": x})["mean"] == x.mean()


def test_an_error_of_a_piece_is_that_of_the_request() -> None:
    def refuse(inputs: Arrays) -> dict[str, NDArray[Any]]:
        if inputs["x"].max() == 299:
            raise ModelError("INVALID_ARGUMENT", "too large")
        return {"y": inputs["x"]}

    with pytest.raises(ModelError, match="too large"):
        run_in_pieces(refuse, {"x": np.arange(300)})


def test_pieces_run_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    both = threading.Barrier(2, timeout=60)

    def meet(inputs: Arrays) -> dict[str, NDArray[Any]]:
        both.wait()
        return {"y": inputs["x"]}

    run_in_pieces(meet, {"x": np.zeros(2 * MOST_ROWS)})
