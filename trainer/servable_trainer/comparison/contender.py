"""The classifiers of a comparison, and the rule that names the best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from servable_client import ServableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    By = Literal["accuracy", "macro_f1"]

_MEGABYTE = 1e6


class CompareError(ServableError):
    """There is nothing to compare, or nothing fits the budget."""


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One classifier and its cost.

    Attributes:
        name: A method's title, or a network's directory.
        network: Whether it is a network.
        settings: Its settings, in words.
        pictures: Number of training images; None if unknown.
        accuracy: Accuracy on the test images.
        interval: Its 95 % confidence interval (Wilson).
        macro_f1: Mean F1 of the classes.
        fit_cpu_seconds: Processor time of its training, child processes included; None if it was
            not measured.
        fit_seconds: Duration of its training; None if unknown.
        predict_cpu_seconds: Processor time for all test images.
        predict_cpu_ms: Processor time per test image, in milliseconds.
        size: Bytes on disk: of the pickle, or of the network's directory or file.
    """

    name: str
    network: bool
    settings: str
    pictures: int | None
    accuracy: float
    interval: tuple[float, float]
    macro_f1: float
    fit_cpu_seconds: float | None
    fit_seconds: float | None
    predict_cpu_seconds: float
    predict_cpu_ms: float
    size: int


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How the best is chosen.

    Attributes:
        by: The metric.
        max_ms: Maximum CPU-milliseconds per image, or None.
        max_mb: Maximum size in megabytes (millions of bytes), or None.
    """

    by: By = "accuracy"
    max_ms: float | None = None
    max_mb: float | None = None

    def __str__(self) -> str:
        limits = [
            f"at most {limit:g} {unit}"
            for limit, unit in ((self.max_ms, "CPU-ms per image"), (self.max_mb, "MB"))
            if limit is not None
        ]
        return ", ".join([f"highest {self.by.replace('_', ' ').replace('f1', 'F1')}", *limits])


def best_of(contenders: Sequence[Contender], rule: Rule) -> Contender:
    """The best by a rule; of equals the one with the cheapest predictions.

    Raises:
        CompareError: None fits the budget.
    """
    fitting = [
        one
        for one in contenders
        if (rule.max_ms is None or one.predict_cpu_ms <= rule.max_ms)
        and (rule.max_mb is None or one.size / _MEGABYTE <= rule.max_mb)
    ]
    if not fitting:
        fastest = min(contenders, key=lambda one: one.predict_cpu_ms)
        smallest = min(contenders, key=lambda one: one.size)
        raise CompareError(
            f"nothing fits the budget of {_budget(rule)}",
            hint=f"the fastest is {fastest.name} with {fastest.predict_cpu_ms:.4f} CPU-ms per "
            f"image, the smallest {smallest.name} with {smallest.size / _MEGABYTE:.2f} MB",
        )
    return max(fitting, key=lambda one: (getattr(one, rule.by), -one.predict_cpu_ms))


def _budget(rule: Rule) -> str:
    return str(rule).partition(", ")[2]
