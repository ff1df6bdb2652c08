"""Metrics as words, from their names in Keras."""

from __future__ import annotations


def in_words(metric: str) -> str:
    """A metric's name in Keras, such as val_accuracy, as words."""
    name = metric.removeprefix("val_")
    return f"{'validation ' if name != metric else ''}{name.replace('_', ' ')}"


def metrics_line(measured: dict[str, float]) -> str:
    """The metrics of an epoch as one readable line: first those of training."""
    ordered = sorted(
        measured, key=lambda name: (name.startswith("val_"), name.removeprefix("val_") != "loss")
    )
    return "  ".join(f"{in_words(name)} {measured[name]:.4f}" for name in ordered)
