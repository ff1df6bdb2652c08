"""Datasets and how they are split."""

from __future__ import annotations

import numpy as np
import pytest

from servable_trainer.data.dataset import Dataset, Pictures


def numbered(count: int, classes: int = 3) -> Pictures:
    """Images whose pixels are their index, with classes in turn."""
    images = np.arange(count, dtype=np.uint8).reshape(-1, 1, 1)
    return Pictures(images=images, targets=np.arange(count) % classes)


def dataset(count: int, classes: int = 3) -> Dataset:
    return Dataset(
        name="numbers",
        labels=tuple("abc"[:classes]),
        train=numbered(count, classes),
        test=numbered(2, classes),
        checksums={},
    )


def test_take_keeps_the_order_of_the_indices() -> None:
    taken = numbered(6).take(np.array([4, 1]))
    assert taken.images.ravel().tolist() == [4, 1]
    assert taken.targets.tolist() == [1, 1]


def test_first_takes_no_more_than_there_are() -> None:
    assert len(numbered(3).first(10)) == 3


def test_a_split_loses_nothing_and_shares_nothing() -> None:
    fit, validation = dataset(60).split(seed=1)
    assert sorted([*fit.images.ravel(), *validation.images.ravel()]) == list(range(60))


def test_a_split_keeps_the_proportion_of_each_class() -> None:
    _, validation = dataset(60).split(seed=1, validation=0.2)
    assert np.bincount(validation.targets).tolist() == [4, 4, 4]


def test_the_same_seed_gives_the_same_split() -> None:
    one, other = (dataset(60).split(seed=5)[1].images for _ in range(2))
    np.testing.assert_array_equal(one, other)


def test_another_seed_gives_another_split() -> None:
    one, other = (set(dataset(60).split(seed=s)[1].images.ravel().tolist()) for s in (5, 6))
    assert one != other


def test_a_tiny_share_still_validates_every_class() -> None:
    _, validation = dataset(60).split(seed=0, validation=0.001)
    assert sorted(validation.targets) == [0, 1, 2]


@pytest.mark.parametrize(("share", "expected"), [(1 / 6, 10), (0.5, 30), (0.9, 54)])
def test_the_share_of_a_split(share: float, expected: int) -> None:
    fit, validation = dataset(60).split(seed=0, validation=share)
    assert (len(fit), len(validation)) == (60 - expected, expected)


def test_split_indices_are_those_of_split() -> None:
    data = dataset(60)
    fit, keep = data.split_indices(seed=2)
    one, other = data.split(seed=2)
    np.testing.assert_array_equal(data.train.images[fit], one.images)
    np.testing.assert_array_equal(data.train.images[keep], other.images)
