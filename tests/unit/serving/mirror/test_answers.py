"""What two answers decide, and where they differ."""

from __future__ import annotations

import json

import numpy as np
import pytest

from servable_serving.mirror.answers import (
    answer_of_json,
    changed_rows,
    confidences,
    decisions,
    largest_difference,
    row_in_words,
    undecided,
)

LIKELY = np.array([[0.1, 0.9], [0.7, 0.3]], np.float32)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"predictions": [[0.1, 0.9], [0.7, 0.3]]}, {"": [[0.1, 0.9], [0.7, 0.3]]}),
        ({"predictions": [1.5, 2]}, {"": [1.5, 2.0]}),
        ({"predictions": [{"label": "a", "p": [1, 2]}]}, {"label": ["a"], "p": [[1, 2]]}),
        ({"predictions": []}, {"": []}),
        ({"outputs": {"label": ["a", "b"]}}, {"label": ["a", "b"]}),
        ({"outputs": [[1.0]]}, {"": [[1.0]]}),
        ({"outputs": 3}, {"": 3}),
        ({"predictions": [{"b64": "AA=="}]}, {"": ["{'b64': 'AA=='}"]}),
        ({"predictions": [[1], [1, 2]]}, {"": ["[1]", "[1, 2]"]}),
    ],
)
def test_answers_in_json(body: object, expected: dict[str, object]) -> None:
    found = answer_of_json(json.dumps(body).encode())
    assert {name: array.tolist() for name, array in found.items()} == expected


@pytest.mark.parametrize("body", ["[]", "3", "{}", '{"error": "no"}', "{", ""])
def test_what_is_no_answer(body: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        answer_of_json(body.encode())


def test_labels_come_before_classes_and_probabilities() -> None:
    answer = {"probabilities": LIKELY, "class_id": np.array([1, 0]), "label": np.array(["b", "a"])}
    found = decisions(answer)
    assert found is not None
    assert found[0].tolist() == ["b", "a"]


def test_versions_are_compared_by_what_both_decide() -> None:
    """One names labels, and the other gives probabilities alone."""
    named = {"probabilities": LIKELY, "label": np.array(["b", "a"])}
    found = decisions(named, {"output_0": LIKELY[::-1]})
    assert found is not None
    assert [one.tolist() for one in found] == [[1, 0], [0, 1]]


@pytest.mark.parametrize(
    "answer",
    [
        {"y": np.array([[1.0, 2.0], [3.0, 4.0]])},  # adds up to more than one
        {"y": np.array([[-1.0, 2.0]])},
        {"y": np.array([[1.0], [1.0]])},
        {"y": np.array(3.0)},
        {"a": LIKELY, "b": LIKELY},
        {},
    ],
)
def test_numbers_decide_nothing(answer: dict[str, np.ndarray]) -> None:
    assert decisions(answer) is None
    assert confidences(answer) is None


def test_confidences() -> None:
    found = confidences({"y": LIKELY})
    assert found is not None
    np.testing.assert_allclose(found, [0.9, 0.7])


def test_labels_and_their_probabilities_decide_and_all_else_does_not() -> None:
    box = np.zeros((2, 4), np.int64)
    label = np.array(["b", "a"])
    assert undecided({"label": label, "probabilities": LIKELY, "box": box}) == ["box"]
    assert undecided({"label": label, "scores": LIKELY, "box": box}) == ["box"]
    assert undecided({"label": label, "logits": LIKELY * 3}) == ["logits"]


def test_other_probabilities_of_the_same_class_are_no_change() -> None:
    changed, rows = changed_rows({"y": LIKELY}, {"y": np.array([[0.4, 0.6], [0.2, 0.8]])})
    assert (changed.tolist(), rows) == ([False, True], 2)


def test_numbers_change_beyond_rounding() -> None:
    one = np.array([1.0, 2.0, 3.0], np.float32)
    changed, rows = changed_rows({"y": one}, {"y": one + np.array([0, 1e-6, 1], np.float32)})
    assert (changed.tolist(), rows) == ([False, False, True], 3)
    assert largest_difference({"y": one}, {"y": one + 2}) == 2


def test_another_number_of_rows_is_a_change_of_all() -> None:
    changed, rows = changed_rows({"y": np.zeros(3)}, {"y": np.zeros(2)})
    assert changed.all()
    assert rows == 3


def test_rows_in_words() -> None:
    named = {"label": np.array([b"Bag", b"Coat"], object), "probabilities": LIKELY}
    assert row_in_words(named, 0) == "Bag 0.90"
    assert row_in_words({"": LIKELY}, 1) == "0 0.70"
    assert row_in_words({"y": np.array([1.5, 2.5])}, 1) == "y 2.5"
