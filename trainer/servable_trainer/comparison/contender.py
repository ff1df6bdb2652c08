"""Who takes part in a comparison, and the rule that names the best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from servable_client import ServableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    By = Literal["accuracy", "macro_f1"]

_MEGABYTE = 1e6


class CompareError(ServableError):
    """Nothing can be compared, or nothing fits the budget."""


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One classifier, and what it costs.

    Attributes:
        name: A method's title, or the folder of a network.
        network: Whether it is a network.
        settings: How it was set up, in words.
        pictures: How many it learnt from; None where that is not known.
        accuracy: The share of test pictures named rightly.
        interval: 95 % confidence, by Wilson's interval.
        macro_f1: The mean of the classes' F1.
        fit_cpu_seconds: Processor time of its training, children included; None where it was not
            measured.
        fit_seconds: Time on the clock of its training; None where it is not known.
        predict_cpu_seconds: Processor time for all test pictures.
        predict_cpu_ms: The same for one picture, in milliseconds.
        size: Bytes on disk: pickled, or the network's folder or file.
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
    """What makes a contender the best.

    Attributes:
        by: The figure that counts.
        max_ms: The most CPU-milliseconds that a picture may cost; any unless given.
        max_mb: The most megabytes (millions of bytes) that it may take; any unless given.
    """

    by: By = "accuracy"
    max_ms: float | None = None
    max_mb: float | None = None

    def __str__(self) -> str:
        limits = [
            f"at most {limit:g} {unit}"
            for limit, unit in ((self.max_ms, "CPU-ms a picture"), (self.max_mb, "MB"))
            if limit is not None
        ]
        return ", ".join([f"the highest {self.by.replace('_', ' ').replace('f1', 'F1')}", *limits])


def best_of(contenders: Sequence[Contender], rule: Rule) -> Contender:
    """The best by a rule; of equals the one that answers at the least cost.

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
            f"none is the best: nothing fits the budget of {_budget(rule)}",
            hint=f"the fastest is {fastest.name} with {fastest.predict_cpu_ms:.4f} CPU-ms a "
            f"picture, the smallest {smallest.name} with {smallest.size / _MEGABYTE:.2f} MB",
        )
    return max(fitting, key=lambda one: (getattr(one, rule.by), -one.predict_cpu_ms))


def _budget(rule: Rule) -> str:
    return str(rule).partition(", ")[2]
