"""Batches of arrays, in an order that depends on the seed and the epoch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from servable_trainer.data.own_data import Part, each_array

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Reshuffled(keras.utils.PyDataset):  # type: ignore[misc]
    """Examples in another order each epoch.

    The order depends only on the seed and the number of the epoch, so that an interrupted training
    resumes with the same batches.

    Args:
        count: Number of examples.
        seed: Seed of the order.
        first_epoch: Number of finished epochs.
    """

    def __init__(self, count: int, *, seed: int, first_epoch: int = 0) -> None:
        super().__init__()
        self._count = count
        self._seed = seed
        self._epoch = first_epoch
        self._shuffle()

    def on_epoch_end(self) -> None:
        """Reshuffle for the next epoch."""
        self._epoch += 1
        self._shuffle()

    def _shuffle(self) -> None:
        self._order = np.random.default_rng((self._seed, self._epoch)).permutation(self._count)


class ShuffledBatches(Reshuffled):
    """Batches of examples of any kind, reshuffled each epoch; the last one may be smaller.

    Args:
        part: The examples, as arrays.
        batch_size: Examples per batch.
        seed: Seed of the order.
        first_epoch: Number of finished epochs.
    """

    def __init__(self, part: Part, *, batch_size: int, seed: int, first_epoch: int = 0) -> None:
        super().__init__(len(part), seed=seed, first_epoch=first_epoch)
        self._part = part
        self._size = batch_size

    def __len__(self) -> int:
        return math.ceil(len(self._part) / self._size)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        some = self._part.take(self._order[index * self._size : (index + 1) * self._size])
        some = with_tensors(some)
        return (some.x,) if some.y is None else some.as_tuple


def with_tensors(part: Part) -> Part:
    """The same examples with strings as TensorFlow's tensors: Keras takes no arrays of them."""
    return Part(x=each_array(_as_tensor, part.x), y=part.y, weights=part.weights)


def _as_tensor(array: NDArray[Any]) -> Any:
    if array.dtype.kind not in "USO":
        return array
    import tensorflow as tf

    return tf.constant(array, tf.string)
