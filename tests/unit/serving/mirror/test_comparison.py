"""The answers of two versions to the same requests, added up."""

from __future__ import annotations

import numpy as np
import pytest

from servable_serving.mirror.comparison import Asked, Comparison, Reservoir


def asked(classes: list[int], sure: float = 0.9, seconds: float = 0.01) -> Asked:
    likely = np.full((len(classes), 3), (1 - sure) / 2, np.float32)
    likely[np.arange(len(classes)), classes] = sure
    return Asked(status="OK", seconds=seconds, answer={"probabilities": likely})


def test_two_versions_that_agree() -> None:
    found = Comparison()
    for _ in range(10):
        found.add("r", "grpc", asked([0, 1, 2]), asked([0, 1, 2], seconds=0.02))
    told = found.as_json()
    assert (told["requests"], told["rows"], told["differ"]) == (10, 30, 0)
    assert told["transports"] == {"grpc": 10}
    assert [(one["of"], one["psi"], one["count"]) for one in told["shifts"]] == [
        ("classes", 0.0, 30), ("confidences", 0.0, 30)
    ]  # fmt: skip
    assert (told["decided"], told["outputs"]) == (30, {})
    assert told["version"]["seconds"]["p50"] == pytest.approx(0.01)
    assert told["against"]["seconds"]["p99"] == pytest.approx(0.02)
    assert told["examples"] == told["changes"] == []


def test_rows_that_differ_are_named() -> None:
    found = Comparison()
    found.add("r7", "rest", asked([0, 2, 2]), asked([0, 1, 1]))
    told = found.as_json()
    assert told["differ"] == 2
    assert told["changes"] == [{"against": "1", "version": "2", "rows": 2}]
    assert told["examples"][0] == {
        "request": "r7", "row": 1, "against": "1 0.90", "version": "2 0.90",
    }  # fmt: skip


def test_failures_are_counted_and_not_compared() -> None:
    found = Comparison()
    found.add("r", "grpc", Asked(status="INTERNAL", seconds=0.1), asked([1]))
    found.dropped()
    told = found.as_json()
    assert (told["version"]["errors"], told["against"]["errors"]) == (1, 0)
    assert (told["rows"], told["dropped"], told["decided"]) == (0, 1, 0)
    assert told["version"]["seconds"]["p95"] is None


def test_less_sure_answers_of_the_same_classes_are_a_shift() -> None:
    found = Comparison()
    for _ in range(100):
        found.add("r", "grpc", asked([0, 1], sure=0.5), asked([0, 1], sure=0.95))
    told = found.as_json()
    assert told["differ"] == 0
    assert [one["psi"] > 5 for one in told["shifts"]] == [False, True]


def test_versions_that_decide_nothing_are_compared_by_their_values() -> None:
    def answer(**outputs: list[float]) -> Asked:
        arrays = {name: np.array(values) for name, values in outputs.items()}
        return Asked(status="OK", seconds=0.01, answer=arrays)

    found = Comparison()
    found.add("r", "grpc", answer(y=[1.0, 2.5, 3.0]), answer(y=[1.0, 2.0, 3.0]))
    found.add("r", "grpc", answer(a=[1.0], b=[5.0]), answer(a=[1.0], b=[2.0]))
    told = found.as_json()
    assert (told["rows"], told["decided"], told["differ"], told["shifts"]) == (4, 0, 0, [])
    assert told["outputs"] == {
        "": {"rows": 3, "apart": pytest.approx(0.125), "column": None},
        "a": {"rows": 1, "apart": 0.0, "column": None},
        "b": {"rows": 1, "apart": 1.0, "column": None},
    }
    assert [one["row"] for one in told["examples"]] == [1, 0]


def test_other_outputs_than_the_label_are_compared_too() -> None:
    def answer(corner: float) -> Asked:
        boxes = np.array([[corner, 1.0, 2.0, 3.0]])
        return Asked(status="OK", seconds=0.01, answer={"label": np.array(["a"]), "box": boxes})

    found = Comparison()
    for place in range(10):
        found.add("r", "rest", answer(0.0), answer(float(place)))
    told = found.as_json()
    assert (told["decided"], told["differ"]) == (10, 0)
    assert told["outputs"] == {"box": {"rows": 10, "apart": 1.0, "column": 0}}


def test_a_reservoir_keeps_a_fair_sample() -> None:
    kept = Reservoir(1000)
    for value in range(20_000):
        kept.add(value)
    assert len(kept.kept) == 1000
    # Five standard deviations of the mean of 1,000 of them.
    assert abs(np.mean(kept.kept) - 10_000) < 5 * 20_000 / np.sqrt(12 * 1000)
