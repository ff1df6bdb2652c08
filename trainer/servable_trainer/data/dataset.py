"""A dataset of labelled images, and its split."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from servable_client import ServableError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Of the training part: 10,000 of Fashion-MNIST's 60,000.
VALIDATION_SHARE = 1 / 6


class DatasetError(ServableError):
    """The dataset is missing, damaged or unavailable."""


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Images with their classes.

    Attributes:
        images: uint8 [N, height, width], or [N, height, width, 3] in colour.
        targets: Class numbers, int64 [N].
    """

    images: NDArray[np.uint8]
    targets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, indices: NDArray[np.int64]) -> Pictures:
        """The images at `indices`, in that order."""
        return Pictures(images=self.images[indices], targets=self.targets[indices])

    def first(self, count: int) -> Pictures:
        """The first `count` images."""
        return Pictures(images=self.images[:count], targets=self.targets[:count])


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A dataset with a training and a test part.

    Attributes:
        name: Its name, which is valid as a model name.
        labels: The name of each class, by its number.
        train: Images to train and validate on.
        test: Images for the final evaluation only.
        checksums: SHA-256 of each file's content, by file name, or of each part of a directory.
    """

    name: str
    labels: tuple[str, ...]
    train: Pictures
    test: Pictures
    checksums: dict[str, str] = field(repr=False)

    def split(
        self, *, seed: int, validation: float = VALIDATION_SHARE
    ) -> tuple[Pictures, Pictures]:
        """Split the training part, stratified by class and shuffled by `seed`.

        Args:
            seed: The same seed gives the same split.
            validation: Share of the validation images; at least one per class.

        Returns:
            Training images and validation images.
        """
        fit, keep = self.split_indices(seed=seed, validation=validation)
        return self.train.take(fit), self.train.take(keep)

    def split_indices(
        self, *, seed: int, validation: float = VALIDATION_SHARE
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The indices in `train` of the two parts of `split`."""
        import numpy as np
        from sklearn.model_selection import train_test_split

        fit, keep = train_test_split(
            np.arange(len(self.train)),
            test_size=max(round(validation * len(self.train)), len(self.labels)),
            stratify=self.train.targets,
            random_state=seed,
        )
        return fit, keep
