"""Data of one's own, for a network of one's own: what a function returns."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from servable_serving.core.errors import UserCodeError
from servable_serving.core.imports import user_code, user_object
from servable_trainer.data.dataset import VALIDATION_SHARE, DatasetError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

_EXPECTED = (
    "it must return (x, y), ((x, y), (x_validation, y_validation)), or a pair of tf.data.Dataset"
)
# Examples that are added to the digest at a time.
_CHUNK = 4096


@dataclass(frozen=True, kw_only=True)
class Part:
    """What a network is trained on, or validated on.

    Attributes:
        x: An array, or several in a list or by name, whose first axis is the examples; or what
            yields batches: a tf.data.Dataset or a keras.utils.PyDataset.
        y: The targets likewise; None if there are none, or if the batches include them.
        weights: A weight for each example, or None.
    """

    x: Any
    y: Any = None
    weights: Any = None

    @property
    def yields_batches(self) -> bool:
        """Whether it is a dataset that yields batches, and not arrays."""
        return not isinstance(self.x, np.ndarray | list | tuple | dict)

    def __len__(self) -> int:
        return len(_arrays(self.x)[0])

    def take(self, indices: NDArray[np.int64] | slice) -> Part:
        """The examples at `indices`, in that order."""

        def some(value: Any) -> Any:
            return each_array(lambda array: array[indices], value)

        return Part(x=some(self.x), y=some(self.y), weights=some(self.weights))

    def first(self, count: int) -> Part:
        """The first `count` examples; a dataset that yields batches stays whole."""
        return self if self.yields_batches else self.take(slice(0, count))

    @property
    def as_tuple(self) -> tuple[Any, ...]:
        """`(x, y)` or `(x, y, weights)`, as Keras takes validation data."""
        return (self.x, self.y) if self.weights is None else (self.x, self.y, self.weights)


@dataclass(frozen=True, kw_only=True)
class OwnData:
    """Data to tune or train a network of one's own on.

    Attributes:
        name: Where it comes from, MODULE:FUNCTION.
        train: The training part.
        validation: The validation part; None if a share of the training part is to be used.
        checksums: SHA-256 of the arrays; empty for datasets that yield batches.
    """

    name: str
    train: Part
    validation: Part | None = None
    checksums: dict[str, str] = field(default_factory=dict, repr=False)

    def split(self, *, seed: int, validation: float = VALIDATION_SHARE) -> tuple[Part, Part]:
        """Training part and validation part; arrays are shuffled by `seed`.

        Args:
            seed: The same seed gives the same order and split.
            validation: Share of the validation part where it was not given.

        Raises:
            DatasetError: The training part yields batches, which cannot be split, and no validation
                part was given.
        """
        if self.train.yields_batches:
            if self.validation is None:
                raise DatasetError(
                    f"{self.name} returns a dataset without one to validate on",
                    hint="return a pair: (train, validation)",
                )
            return self.train, self.validation
        if self.validation is not None:
            order = np.random.default_rng(seed).permutation(len(self.train))
            return self.train.take(order), self.validation
        from sklearn.model_selection import train_test_split

        fit, keep = train_test_split(
            np.arange(len(self.train)),
            test_size=max(round(validation * len(self.train)), 1),
            stratify=_classes(self.train.y, validation),
            random_state=seed,
        )
        return self.train.take(fit), self.train.take(keep)


def own_data(place: str) -> OwnData:
    """Call the function that MODULE:FUNCTION names, and check what it returns.

    It returns `(x, y)`, or `(train, validation)`, each of which is `(x, y)`, `(x, y,
    sample_weight)` or a dataset that yields batches. `x` and `y` are arrays, or several of them in
    a list or by name. What `keras.datasets.*.load_data` return is of this form.

    Raises:
        DatasetError: It returns something else.
        UserCodeError: It cannot be imported, or fails.
    """
    load: Callable[[], Any] = user_object(place)
    if not callable(load):
        raise UserCodeError(f"{place} is not a function", hint=_EXPECTED)
    with user_code(f"{place}()"):
        found = load()
    return as_own_data(found, place)


def as_own_data(found: Any, name: str) -> OwnData:
    """What a function returned, as data.

    Raises:
        DatasetError: It is not of the form that `own_data` names.
    """
    parts: tuple[Any, ...] = (found,)
    if isinstance(found, tuple) and len(found) == 2 and all(map(_is_part, found)):
        parts = found
    elif not _is_part(found):
        raise DatasetError(f"{name} returns {_kind(found)}", hint=_EXPECTED)
    train, *rest = (_part(one, name) for one in parts)
    validation = rest[0] if rest else None
    arrays = {
        key: part
        for key, part in (("train", train), ("validation", validation))
        if part is not None and not part.yields_batches
    }
    return OwnData(
        name=name,
        train=train,
        validation=validation,
        checksums={key: _digest(part) for key, part in arrays.items()},
    )


def _is_part(value: Any) -> bool:
    """Whether it is a tuple of arrays, or yields batches."""
    if isinstance(value, tuple):
        return 1 < len(value) <= 3 and not any(isinstance(one, tuple) for one in value)
    if isinstance(value, list | dict | str | bytes | np.ndarray) or hasattr(value, "__next__"):
        return False  # a generator ends after one epoch
    return hasattr(value, "__iter__") or hasattr(value, "__getitem__")


def _part(value: Any, name: str) -> Part:
    if not isinstance(value, tuple):
        return Part(x=value)
    as_array = [each_array(np.asarray, one) for one in value]
    part = Part(x=as_array[0], y=as_array[1], weights=as_array[2] if len(value) > 2 else None)
    arrays = [*_arrays(part.x), *_arrays(part.y), *_arrays(part.weights)]
    counts = [len(array) if array.ndim else -1 for array in arrays]
    if part.x is None or len(set(counts)) != 1 or counts[0] < 1:
        shapes = ", ".join(str(list(array.shape)) for array in arrays)
        raise DatasetError(
            f"the arrays that {name} returns have no common number of examples: {shapes}",
            hint=_EXPECTED,
        )
    return part


def each_array(function: Callable[[Any], Any], value: Any) -> Any:
    """Apply a function to an array, or to each of a list or a dict of them."""
    if value is None:
        return None
    if isinstance(value, dict):
        return {key: function(one) for key, one in value.items()}
    if isinstance(value, list) and value and all(hasattr(one, "shape") for one in value):
        return [function(one) for one in value]
    return function(value)


def _arrays(value: Any) -> list[NDArray[Any]]:
    if value is None:
        return []
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else [value]


def _classes(targets: Any, share: float) -> NDArray[Any] | None:
    """Targets to stratify by, if they are class numbers with enough examples each."""
    if not isinstance(targets, np.ndarray) or targets.dtype.kind not in "iu":
        return None
    numbers = targets.reshape([-1])
    if len(numbers) != len(targets):
        return None
    _, counts = np.unique(numbers, return_counts=True)
    fewest = min(share, 1 - share) * len(numbers)
    return numbers if counts.min() > 1 and len(counts) <= fewest else None


def _digest(part: Part) -> str:
    digest = hashlib.sha256()
    for array in (*_arrays(part.x), *_arrays(part.y), *_arrays(part.weights)):
        digest.update(f"{array.dtype.str} {array.shape} ".encode())
        for start in range(0, len(array), _CHUNK):
            some = array[start : start + _CHUNK]
            # Objects, such as strings, have no bytes of their own.
            digest.update(repr(some.tolist()).encode() if some.dtype.hasobject else some.tobytes())
    return digest.hexdigest()


def _kind(value: Any) -> str:
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}: {', '.join(type(one).__name__ for one in value)}"
    return type(value).__name__
