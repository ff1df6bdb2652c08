"""The verdicts of the gates `latency` and `size`."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from servable_serving.core.errors import ModelError
from servable_serving.gates.cost import (
    compare_latency,
    compare_latency_of_requests,
    judge_latency,
    judge_size,
)
from servable_serving.gates.holdout import Holdout
from servable_serving.gates.verdict import Refused
from servable_serving.model.golden import GoldenRequest

if TYPE_CHECKING:
    from numpy.typing import NDArray

MEBIBYTE = 1 << 20


@pytest.mark.parametrize(
    ("size", "served", "ratio"),
    [(100, 100, 1.0), (MEBIBYTE, 1, 2.0), (20 * MEBIBYTE, 10 * MEBIBYTE, 2.0), (1, 100, 0.0)],
)
def test_a_size_within_the_tolerance_passes(size: int, served: int, ratio: float) -> None:
    figures = judge_size(size, served, ratio).figures
    assert (figures["bytes"], figures["served_bytes"]) == (size, served)


@pytest.mark.parametrize(
    ("size", "served", "ratio"),
    [(MEBIBYTE + 2, 1, 2.0), (20 * MEBIBYTE + 1, 10 * MEBIBYTE, 2.0),
     (12 * MEBIBYTE, 10 * MEBIBYTE, 1.0)],
)  # fmt: skip
def test_a_size_beyond_the_tolerance_fails(size: int, served: int, ratio: float) -> None:
    with pytest.raises(Refused) as caught:
        judge_size(size, served, ratio)
    assert caught.value.figures["tolerance"] == ratio


def test_without_a_served_version_any_size_passes() -> None:
    assert judge_size(1 << 40, None, 1.0).figures == {"bytes": 1 << 40}


@pytest.mark.parametrize(
    ("now", "before", "ratio"), [(10.0, 10.0, 1.0), (15.0, 10.0, 1.5), (0.6, 0.1, 1.5)]
)
def test_a_latency_within_the_tolerance_passes(now: float, before: float, ratio: float) -> None:
    figures = judge_latency({1: now}, {1: before}, ratio).figures
    assert figures["milliseconds"] == {"1": now}
    assert figures["served_milliseconds"] == {"1": before}


@pytest.mark.parametrize(
    ("now", "before", "ratio"), [(15.1, 10.0, 1.5), (0.61, 0.1, 1.5), (10.6, 10.0, 1.0)]
)
def test_a_latency_beyond_the_tolerance_fails(now: float, before: float, ratio: float) -> None:
    with pytest.raises(Refused) as caught:
        judge_latency({1: now}, {1: before}, ratio)
    assert caught.value.figures["tolerance"] == ratio


def test_every_batch_size_counts() -> None:
    with pytest.raises(Refused):
        judge_latency({1: 10.0, 32: 40.0}, {1: 10.0, 32: 20.0}, 1.5)


def test_without_a_served_version_any_latency_passes() -> None:
    assert judge_latency({1: 1e6}, None, 1.0).figures == {"milliseconds": {"1": 1e6}}


@dataclass
class Clock:
    """Time that passes only where a fake takes it."""

    now: float = 0.0


@dataclass
class FakeClassifier:
    """Takes a number of milliseconds for each batch; after some calls, another."""

    clock: Clock
    milliseconds: float
    later: float | None = None
    after: int = 0
    labels: tuple[str, ...] = ("boot",)
    folder: Path = Path("models/garments/1")
    image_shape: list[int] = field(default_factory=lambda: [2, 2])
    calls: list[tuple[int, ...]] = field(default_factory=list)

    def run(self, images: NDArray[Any], output: str | None = None) -> NDArray[Any]:
        assert output is None
        self.calls.append(images.shape)
        changed = self.later is not None and len(self.calls) > self.after
        self.clock.now += (self.later if changed and self.later else self.milliseconds) / 1000
        return images


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "perf_counter", lambda: clock.now)
    return clock


def test_the_medians_are_measured(clock: Clock) -> None:
    figures = compare_latency(
        FakeClassifier(clock, 3.0), FakeClassifier(clock, 2.0), None, 2.0
    ).figures
    assert figures["milliseconds"] == {"1": 3.0, "32": 3.0}
    assert figures["served_milliseconds"] == {"1": 2.0, "32": 2.0}


def test_a_candidate_alone_is_measured_too(clock: Clock) -> None:
    figures = compare_latency(FakeClassifier(clock, 3.0), None, None, 2.0).figures
    assert figures["milliseconds"] == {"1": 3.0, "32": 3.0}


def test_warming_up_does_not_count(clock: Clock) -> None:
    candidate = FakeClassifier(clock, 1000.0, later=3.0, after=5)
    figures = compare_latency(candidate, None, None, 2.0).figures
    assert figures["milliseconds"]["1"] == 3.0


def test_what_looks_too_slow_is_measured_again(clock: Clock) -> None:
    # As if the machine was busy for the first attempt.
    candidate = FakeClassifier(clock, 100.0, later=2.0, after=65)
    served = FakeClassifier(clock, 2.0)
    assert compare_latency(candidate, served, None, 1.5).figures["milliseconds"]["1"] == 2.0


def test_what_is_too_slow_three_times_fails(clock: Clock) -> None:
    candidate = FakeClassifier(clock, 10.0)
    with pytest.raises(Refused):
        compare_latency(candidate, FakeClassifier(clock, 2.0), None, 1.5)
    assert len(candidate.calls) == 3 * (5 + 60) + 3 * (5 + 20)


def test_a_fast_candidate_is_measured_once(clock: Clock) -> None:
    candidate = FakeClassifier(clock, 2.0)
    compare_latency(candidate, FakeClassifier(clock, 2.0), None, 1.5)
    assert len(candidate.calls) == (5 + 60) + (5 + 20)


def test_noise_has_the_size_of_the_model(clock: Clock) -> None:
    candidate = FakeClassifier(clock, 2.0, image_shape=[4, 5, 3])
    compare_latency(candidate, None, None, 1.5)
    assert set(candidate.calls) == {(1, 4, 5, 3), (32, 4, 5, 3)}


def test_few_held_out_images_fill_a_batch(clock: Clock) -> None:
    images = Holdout(
        source="few", images=np.zeros([3, 2, 2], np.uint8), targets=np.zeros(3, np.int64)
    )
    candidate = FakeClassifier(clock, 2.0)
    compare_latency(candidate, None, images, 1.5)
    assert set(candidate.calls) == {(1, 2, 2), (32, 2, 2)}


@dataclass
class FakeModel:
    """Answers each signature after so many milliseconds."""

    clock: Clock
    milliseconds: dict[str, float]

    def ask(self, signature: str, inputs: Any) -> dict[str, Any]:
        assert list(inputs) == ["x"]
        if signature not in self.milliseconds:
            raise ModelError("NOT_FOUND", f"there is no signature {signature}")
        self.clock.now += self.milliseconds[signature] / 1000
        return {}


REQUESTS = [
    GoldenRequest(signature=name, inputs={"x": np.zeros(1)}, outputs={}) for name in ("one", "two")
]


def test_each_signature_is_measured(clock: Clock) -> None:
    candidate = FakeModel(clock, {"one": 3.0, "two": 20.0})
    served = FakeModel(clock, {"one": 2.0, "two": 10.0})
    figures = compare_latency_of_requests(candidate, served, REQUESTS, 2.0).figures
    assert figures["milliseconds"] == {"in one": 3.0, "in two": 20.0}
    assert figures["served_milliseconds"] == {"in one": 2.0, "in two": 10.0}
    with pytest.raises(Refused, match="two"):
        compare_latency_of_requests(candidate, served, REQUESTS, 1.6)
    assert compare_latency_of_requests(candidate, None, REQUESTS, 1.0).outcome == "passed"
    assert compare_latency_of_requests(candidate, served, [], 1.0).outcome == "skipped"


def test_what_the_served_version_does_not_answer_is_not_compared(clock: Clock) -> None:
    candidate = FakeModel(clock, {"one": 3.0, "two": 20.0})
    served = FakeModel(clock, {"one": 2.0})
    figures = compare_latency_of_requests(candidate, served, REQUESTS, 2.0).figures
    assert figures["served_milliseconds"] == {"in one": 2.0}
    figures = compare_latency_of_requests(candidate, FakeModel(clock, {}), REQUESTS, 2.0).figures
    assert figures == {"milliseconds": {"in one": 3.0, "in two": 20.0}}
    with pytest.raises(ModelError):
        compare_latency_of_requests(served, candidate, REQUESTS, 2.0)


def test_a_served_version_that_fails_is_not_compared(clock: Clock) -> None:
    class Broken(FakeClassifier):
        def run(self, images: NDArray[Any], output: str | None = None) -> NDArray[Any]:
            del images, output
            raise ModelError("INTERNAL", "it is broken")

    figures = compare_latency(FakeClassifier(clock, 3.0), Broken(clock, 1.0), None, 1.0).figures
    assert figures == {"milliseconds": {"1": 3.0, "32": 3.0}}
    with pytest.raises(ModelError):
        compare_latency(Broken(clock, 1.0), FakeClassifier(clock, 3.0), None, 1.0)
