"""Held-out pictures, from a file or from who offers them; and the figures of the gate by hand."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from servable_serving.core.statistics import wilson_interval
from servable_serving.gates.accuracy import mcnemar, paired_interval
from servable_serving.gates.holdout import HoldoutError
from servable_serving.gates.run import find_holdout

if TYPE_CHECKING:
    from pathlib import Path

    from servable_trainer.data.dataset import Dataset

IMAGES = np.zeros([4, 28, 28], np.uint8)
TARGETS = np.array([0, 1, 2, 1])


def test_a_file_wins(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=IMAGES, targets=TARGETS.astype(np.uint8))
    found = find_holdout("fashion_mnist", file=tmp_path / "a.npz")
    assert found is not None
    assert found.images.shape == (4, 28, 28)
    assert found.targets.tolist() == [0, 1, 2, 1]
    assert found.targets.dtype == np.int64
    assert found.labels == ()
    np.savez(tmp_path / "b.npz", images=IMAGES, targets=TARGETS, labels=["a", "b", "c"])
    found = find_holdout("other", file=tmp_path / "b.npz")
    assert found is not None
    assert found.labels == ("a", "b", "c")


def test_the_datasets_own(dataset: Dataset) -> None:
    found = find_holdout("fashion_mnist")
    assert found is not None
    np.testing.assert_array_equal(found.images, dataset.test.images)
    np.testing.assert_array_equal(found.targets, dataset.test.targets)
    assert found.labels == dataset.labels


def test_nobody_offers_one_for_another_model() -> None:
    assert find_holdout("garments") is None


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"images": IMAGES}, "no array 'targets'"),
        ({"targets": TARGETS}, "no array 'images'"),
        ({"images": IMAGES.astype(float), "targets": TARGETS}, r"images of float64 \[4, 28, 28\]"),
        ({"images": IMAGES[0], "targets": TARGETS}, r"must be uint8 \[N, height, width\]"),
        ({"images": IMAGES, "targets": TARGETS[:3]}, r"targets of int64 \[3\]"),
        ({"images": IMAGES, "targets": TARGETS / 2}, "must be integers"),
        ({"images": IMAGES[:0], "targets": TARGETS[:0]}, "no images"),
        ({"images": IMAGES, "targets": TARGETS - 1}, "class numbers from -1"),
        ({"images": IMAGES, "targets": TARGETS, "labels": ["a", "b"]}, "to 2, and 2 labels"),
        ({"images": IMAGES, "targets": np.array([None] * 4)}, "cannot read"),
    ],
)
def test_what_is_no_held_out_set(tmp_path: Path, arrays: dict[str, Any], words: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(HoldoutError, match=words):
        find_holdout("any", file=tmp_path / "a.npz")


def test_a_folder_needs_the_size_of_the_images(tmp_path: Path) -> None:
    with pytest.raises(HoldoutError, match="the size of the images is not known"):
        find_holdout("any", file=tmp_path)


def test_what_is_no_such_file(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no zip")
    np.save(tmp_path / "one.npy", TARGETS)
    for name in ("text", "one.npy", "nosuch"):
        with pytest.raises(HoldoutError, match="cannot read"):
            find_holdout("any", file=tmp_path / name)


def test_the_intervals_by_hand() -> None:
    # Of Agresti and Coull's own example for Wilson: none of ten.
    assert wilson_interval(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    # b = 10, c = 30, n = 100: (30.5 - 10.5) / 102, and 1.96 / 102 * sqrt(41 - 400 / 102).
    middle, half = 20 / 102, 1.959964 / 102 * math.sqrt(41 - 400 / 102)
    assert paired_interval(10, 30, 100) == pytest.approx((middle - half, middle + half), abs=1e-6)
    low, high = paired_interval(5, 5, 50)
    assert low == pytest.approx(-high)


def test_mcnemar_is_the_binomial_of_a_fair_coin() -> None:
    assert mcnemar(0, 0) == 1
    assert mcnemar(3, 3) == 1
    assert mcnemar(0, 5) == pytest.approx(2 / 32)
    assert mcnemar(5, 0) == pytest.approx(2 / 32)
    assert mcnemar(2, 8) == pytest.approx(2 * (1 + 10 + 45) / 1024)
    assert 0 < mcnemar(2000, 2300) < 1e-4  # and no overflow
