"""Metrics as words."""

from __future__ import annotations

import pytest

from servable_trainer.scoring.metric_names import in_words, metrics_line


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("loss", "loss"),
        ("val_accuracy", "validation accuracy"),
        ("val_top_k_accuracy", "validation top k accuracy"),
        ("interval", "interval"),
    ],
)
def test_in_words(name: str, words: str) -> None:
    assert in_words(name) == words


def test_the_loss_comes_first_and_validation_last() -> None:
    measured = {"accuracy": 0.5, "val_auc": 0.7, "loss": 1.0, "val_loss": 2.0}
    expected = "loss 1.0000  accuracy 0.5000  validation loss 2.0000  validation auc 0.7000"
    assert metrics_line(measured) == expected
