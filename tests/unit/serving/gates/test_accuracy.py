"""The verdict of the gate `accuracy`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from servable_client import ServableError
from servable_serving.core.errors import ModelError
from servable_serving.gates.accuracy import classes, compare_accuracy, judge
from servable_serving.gates.holdout import Holdout
from servable_serving.gates.verdict import Refused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def right(count: int, wrong: int) -> NDArray[np.bool_]:
    """So many images, of which the first few are classified wrongly."""
    return np.arange(count) >= wrong


@dataclass
class FakeClassifier:
    """Classifies each image by its first pixel."""

    labels: Sequence[str] = ("boot", "shirt")
    image_shape: list[int] = field(default_factory=lambda: [2, 2])
    folder: Path = Path("models/garments/1")
    batches: list[int] = field(default_factory=list)
    broken: bool = False

    def run(self, images: NDArray[Any], output: str | None = None) -> NDArray[Any]:
        if self.broken:
            raise ModelError("INTERNAL", "it is broken")
        self.batches.append(len(images))
        numbers = images[:, 0, 0].astype(np.int64)
        if output == "class_id":
            return numbers
        assert output == "label"
        return np.array([self.labels[n].encode() for n in numbers], object)


def holdout(targets: Sequence[int], pixels: Sequence[int], *labels: str) -> Holdout:
    images = np.zeros([len(pixels), 2, 2], np.uint8)
    images[:, 0, 0] = pixels
    return Holdout(
        source="held-out", images=images, targets=np.array(targets, np.int64), labels=labels
    )


def test_without_a_served_version_the_accuracy_is_reported() -> None:
    verdict = judge(right(100, 10), None, source="held-out", tolerance=0.0)
    assert verdict.outcome == "passed"
    assert verdict.figures["accuracy"] == 0.9
    low, high = verdict.figures["interval"]
    assert low < 0.9 < high


@pytest.mark.parametrize(
    ("wrong", "wrong_before", "tolerance"),
    [(10, 10, 0.0), (5, 10, 0.0), (15, 10, 0.05), (100, 0, 1.0)],
)
def test_an_accuracy_within_the_tolerance_passes(
    wrong: int, wrong_before: int, tolerance: float
) -> None:
    verdict = judge(
        right(100, wrong), right(100, wrong_before), source="held-out", tolerance=tolerance
    )
    assert verdict.figures["difference"] == pytest.approx((wrong_before - wrong) / 100)


@pytest.mark.parametrize(
    ("wrong", "wrong_before", "tolerance"), [(11, 10, 0.0), (16, 10, 0.05), (100, 0, 0.99)]
)
def test_an_accuracy_below_the_tolerance_fails(
    wrong: int, wrong_before: int, tolerance: float
) -> None:
    with pytest.raises(Refused) as caught:
        judge(right(100, wrong), right(100, wrong_before), source="held-out", tolerance=tolerance)
    assert caught.value.figures["tolerance"] == tolerance
    assert caught.value.hint is not None


def test_what_only_one_of_them_classifies_correctly_is_counted() -> None:
    mine = np.array([True, True, False, False, True])
    theirs = np.array([True, False, True, True, True])
    figures = judge(mine, theirs, source="held-out", tolerance=1.0).figures
    assert (figures["candidate_alone_right"], figures["served_alone_right"]) == (1, 2)
    low, high = figures["difference_interval"]
    assert low < figures["difference"] < high
    assert 0 < figures["p"] <= 1


def test_without_images_the_gate_is_skipped() -> None:
    verdict = compare_accuracy(FakeClassifier(), None, None, 0.0)
    assert verdict.outcome == "skipped"


def test_both_versions_are_compared_on_the_same_images() -> None:
    images = holdout([0, 1, 1], [0, 1, 0], "boot", "shirt")
    served = FakeClassifier(labels=("shirt", "boot"))
    figures = compare_accuracy(FakeClassifier(), served, images, 1.0).figures
    assert figures["accuracy"] == pytest.approx(2 / 3)
    assert figures["served_accuracy"] == pytest.approx(1 / 3)


def test_classes_are_compared_by_name_where_there_are_names() -> None:
    given, is_right = classes(FakeClassifier(), holdout([0, 1], [0, 0], "boot", "shirt"))
    assert given.tolist() == [b"boot", b"boot"]
    assert is_right.tolist() == [True, False]


def test_classes_are_compared_by_number_otherwise() -> None:
    given, is_right = classes(FakeClassifier(), holdout([1, 1], [0, 1]))
    assert given.tolist() == [0, 1]
    assert is_right.tolist() == [False, True]


def test_images_are_classified_in_batches() -> None:
    version = FakeClassifier()
    classes(version, holdout([0] * 1200, [0] * 1200))
    assert version.batches == [500, 500, 200]


def test_images_of_another_size_are_refused() -> None:
    with pytest.raises(Refused):
        classes(FakeClassifier(image_shape=[2, 2, 3]), holdout([0], [0]))


def test_unknown_classes_are_refused() -> None:
    with pytest.raises(Refused, match="spoon"):
        classes(FakeClassifier(), holdout([0], [0], "spoon", "boot"))


@pytest.mark.parametrize(
    "served",
    [
        FakeClassifier(image_shape=[3, 3]),
        FakeClassifier(labels=("boot",)),
        FakeClassifier(broken=True),
    ],
)
def test_a_failure_of_the_served_version_is_not_the_candidates(served: FakeClassifier) -> None:
    images = holdout([0, 1], [0, 1], "boot", "shirt")
    verdict = compare_accuracy(FakeClassifier(), served, images, 0.0)
    assert verdict.outcome == "passed"
    assert verdict.figures["accuracy"] == 1.0
    assert "the served version could not be measured" in verdict.said
    with pytest.raises(ServableError):
        compare_accuracy(FakeClassifier(broken=True), FakeClassifier(), images, 0.0)
