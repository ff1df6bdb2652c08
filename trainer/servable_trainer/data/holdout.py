"""What the gates compare versions of the shipped model with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


def fashion_mnist(data: Path | None) -> tuple[Any, Any, list[str]]:
    """Fashion-MNIST's 10,000 test pictures.

    The test set and not a validation split: a version may have been trained on all of the training
    part, and its neighbour with another split. A gate compares by it and chooses nothing by it.

    Args:
        data: The dataset's folder; looked for unless given.

    Returns:
        The pictures, uint8 [N, 28, 28], their class numbers, int64 [N], and the classes' names.

    Raises:
        ServableError: The dataset is not on this machine, or not as it was published.
    """
    from servable_trainer.data.fashion_mnist import find

    dataset = find(data)[1]
    return dataset.test.images, dataset.test.targets, list(dataset.labels)
