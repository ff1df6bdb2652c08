"""Training batches, in an order that depends on the seed and the epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from servable_trainer.networks.shuffled import Reshuffled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from servable_trainer.data.dataset import Pictures
    from servable_trainer.networks.optimizer import Training


class Batches(Reshuffled):
    """Batches of images, reshuffled each epoch; an incomplete last batch is dropped.

    Args:
        pictures: Training images.
        training: The batch size and mixup.
        classes: Number of classes.
        seed: Seed of the order.
        first_epoch: Number of finished epochs.
        targets: Targets in place of the images' classes, float32 [N, classes].
    """

    def __init__(
        self,
        pictures: Pictures,
        training: Training,
        *,
        classes: int,
        seed: int,
        first_epoch: int = 0,
        targets: NDArray[np.float32] | None = None,
    ) -> None:
        super().__init__(len(pictures), seed=seed, first_epoch=first_epoch)
        self._pictures = pictures
        self._targets = one_hot(pictures.targets, classes) if targets is None else targets
        self._size = min(training.batch_size, len(pictures))
        self._mixup = training.mixup

    def __len__(self) -> int:
        return len(self._pictures) // self._size

    def __getitem__(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        chosen = self._order[index * self._size : (index + 1) * self._size]
        images, targets = self._pictures.images[chosen], self._targets[chosen]
        if not self._mixup:
            return images, targets
        random = np.random.default_rng((self._seed, self._epoch, index))
        share = random.beta(self._mixup, self._mixup)
        mixed = share * images + (1 - share) * images[::-1]
        return (
            np.rint(mixed).astype(np.uint8),
            (share * targets + (1 - share) * targets[::-1]).astype(np.float32),
        )


def one_hot(targets: NDArray[np.int64], classes: int) -> NDArray[np.float32]:
    """Class numbers [N] as one-hot float32 [N, classes]."""
    return np.eye(classes, dtype=np.float32)[targets]


def whole(pictures: Pictures, classes: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """All images and their targets, for Keras' validation."""
    return pictures.images, one_hot(pictures.targets, classes)
