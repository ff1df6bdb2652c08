"""The holdout set of the gates for the shipped model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


def fashion_mnist(data: Path | None) -> tuple[Any, Any, list[str]]:
    """Fashion-MNIST's 10,000 test images.

    The test set and not a validation split: a version may have been trained on all of the training
    part, and another one on another split. Gates compare versions on it and select nothing by it.

    Args:
        data: The dataset's directory; default: the usual places.

    Returns:
        The images, uint8 [N, 28, 28], their class numbers, int64 [N], and the classes' names.

    Raises:
        ServableError: The dataset is unavailable or damaged.
    """
    from servable_trainer.data.fashion_mnist import find

    dataset = find(data)[1]
    return dataset.test.images, dataset.test.targets, list(dataset.labels)
