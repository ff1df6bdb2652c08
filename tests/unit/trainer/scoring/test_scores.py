"""An evaluation, compared with what is worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from servable_trainer.scoring.scores import print_evaluation, score

LABELS = ("a", "b", "c")
TARGETS = np.array([0, 0, 0, 1, 1, 2])
PROBABILITIES = np.eye(3, dtype=np.float32)[[0, 0, 1, 1, 2, 2]]


def test_accuracy_and_its_interval() -> None:
    found = score(TARGETS, PROBABILITIES, LABELS)
    assert found.accuracy == pytest.approx(4 / 6)
    assert found.count == 6
    low, high = found.interval
    assert 0 < low < found.accuracy < high < 1


def test_precision_recall_and_support_of_each_class() -> None:
    a, b, c = score(TARGETS, PROBABILITIES, LABELS).classes
    assert (a.label, a.precision, a.support) == ("a", 1, 3)
    assert a.recall == pytest.approx(2 / 3)
    assert (b.precision, b.recall) == (0.5, 0.5)
    assert (c.precision, c.recall) == (0.5, 1)
    assert c.f1 == pytest.approx(2 / 3)


def test_macro_f1_is_the_mean_of_the_classes() -> None:
    assert score(TARGETS, PROBABILITIES, LABELS).macro_f1 == pytest.approx((0.8 + 0.5 + 2 / 3) / 3)


def test_calibration_error_of_certain_predictions_is_the_error_rate() -> None:
    assert score(TARGETS, PROBABILITIES, LABELS).calibration_error == pytest.approx(2 / 6)


def test_a_class_without_images_scores_zero() -> None:
    found = score(np.array([0, 0]), np.eye(2, dtype=np.float32)[[0, 0]], ("a", "b"))
    assert (found.classes[1].f1, found.classes[1].support) == (0, 0)


def test_the_table_has_a_row_for_each_class(capsys: pytest.CaptureFixture[str]) -> None:
    print_evaluation(score(TARGETS, PROBABILITIES, ("left", "right", "other")), title="the title")
    out = capsys.readouterr().out
    assert "the title: accuracy 0.6667" in out
    assert all(label in out for label in ("left", "right", "other"))
