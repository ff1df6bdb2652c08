"""How far the outputs of two versions are apart, where they are not labels or classes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from servable_serving.mirror.answers import rows_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]

# Columns of an output that are looked at; of wider ones, as many at equal distances.
_MOST_COLUMNS = 4096
# With more columns than this, an output is an image or an embedding: its columns have one scale.
_MOST_QUANTITIES = 64
_MOST_OUTPUTS = 100
# A column whose variance is a smaller part of its mean square than this is a constant.
_CONSTANT = 1e-6
# Smaller differences are none, also where the version in service answers 0.
_ROUNDING = 1e-8
_NUMERIC = "biuf"


class Outputs:
    """Outputs by name; not thread-safe."""

    def __init__(self) -> None:
        self._outputs: dict[str, _Output] = {}

    def add(self, name: str, version: NDArray[Any] | None, against: NDArray[Any]) -> None:
        """Count an output.

        Args:
            name: Its name.
            version: What the version on trial gives; None if it has no such output.
            against: What the version in service gives. The first dimension is the row.
        """
        if name not in self._outputs and len(self._outputs) >= _MOST_OUTPUTS:
            return
        self._outputs.setdefault(name, _Output()).add(version, against)

    def as_json(self) -> dict[str, dict[str, Any]]:
        """As JSON values: by name the rows, how far apart they are, 0 to 1, and the worst column.

        Numbers are apart by the mean square of the differences, in parts of the variance of the
        version in service: 0 if they are alike, 1 if they have nothing to do with each other (the
        "fraction of variance unexplained", 1 - R²). Columns are taken together if all values are
        within 0 and 1, or if there are more than 64; else each has a scale of its own, and the
        worst counts. Text is apart by the share of it that differs.
        """
        return {name: one.as_json() for name, one in self._outputs.items()}


class _Output:
    def __init__(self) -> None:
        self._rows, self._unlike = 0, 0.0
        self._moments = _Moments()

    def add(self, version: NDArray[Any] | None, against: NDArray[Any]) -> None:
        rows = rows_of(against)
        self._rows += rows
        if version is None or version.shape != against.shape:
            self._unlike += rows
        elif not against.size:
            pass
        elif against.dtype.kind in _NUMERIC and version.dtype.kind in _NUMERIC:
            self._unlike += self._moments.add(_columns(version), _columns(against))
        else:
            self._unlike += rows * float(np.mean(np.asarray(version != against)))

    def as_json(self) -> dict[str, Any]:
        apart, column = self._moments.apart()
        unlike = self._unlike / self._rows if self._rows else 0.0
        return {"rows": self._rows, "apart": min(apart + unlike, 1.0), "column": column}


def _columns(array: NDArray[Any]) -> Numbers:
    flat = array.reshape(rows_of(array), -1)
    return flat[:, :: math.ceil(flat.shape[1] / _MOST_COLUMNS)].astype(np.float64)


class _Moments:
    """Mean and variance of each column, and the squares of the differences.

    Added up as in Chan, Golub, LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing
    Sample Variances", 1979.
    """

    def __init__(self) -> None:
        self._count = self._mean = self._spread = self._squares = np.zeros(0)
        self._within_unit = True

    def add(self, version: Numbers, against: Numbers) -> int:
        """Add rows.

        Returns:
            How many rows have a value that only one of them has: the other has NaN or infinity.
        """
        if not len(self._count):
            self._reset(np.zeros((4, against.shape[1])))
        elif len(self._count) != against.shape[1]:  # the size differs between requests
            self._flatten()
        with np.errstate(all="ignore"):
            known = np.isfinite(version) & np.isfinite(against)
            self._within_unit &= bool(
                ((version >= 0) & (version <= 1) & (against >= 0) & (against <= 1))[known].all()
            )
            same = np.isclose(version, against, equal_nan=True)
            unlike = int((~known & ~same).any(axis=1).sum())
            difference = np.where(known, version - against, 0.0)
            difference[np.abs(difference) < _ROUNDING] = 0.0
            if len(self._count) == 1:
                known, against = known.reshape(-1, 1), against.reshape(-1, 1)
                difference = difference.reshape(-1, 1)
            count = known.sum(axis=0)
            mean = np.where(known, against, 0.0).sum(axis=0) / np.maximum(count, 1)
            spread = (np.where(known, against - mean, 0.0) ** 2).sum(axis=0)
            self._merge(count, mean, spread)
            self._squares = self._squares + (difference**2).sum(axis=0)
        return unlike

    def _reset(self, four: Numbers) -> None:
        self._count, self._mean, self._spread, self._squares = four

    def _merge(self, count: NDArray[Any], mean: Numbers, spread: Numbers) -> None:
        total = self._count + count
        share = count / np.maximum(total, 1)
        moved = mean - self._mean
        self._spread = self._spread + spread + moved**2 * self._count * share
        self._mean = self._mean + moved * share
        self._count = total

    def _flatten(self) -> None:
        """Take all columns as one."""
        columns = (self._count, self._mean, self._spread)
        squares = self._squares.sum(keepdims=True)
        self._reset(np.zeros((4, 1)))
        for one in zip(*columns, strict=True):
            self._merge(*(np.atleast_1d(value) for value in one))
        self._squares = squares

    def apart(self) -> tuple[float, int | None]:
        """How far apart they are, 0 to 1, and the column, if one is meant."""
        if not len(self._count):
            return 0.0, None
        with np.errstate(all="ignore"):
            power = self._spread + self._count * self._mean**2
            scale = np.where(self._spread > _CONSTANT * power, self._spread, power)
            squares = self._squares
            together = self._within_unit or len(scale) > _MOST_QUANTITIES
            if together:
                scale, squares = scale.sum(keepdims=True), squares.sum(keepdims=True)
            # Differences from a column of zeros, and squares that overflow, have no ratio.
            parts = np.where(squares > 0, np.nan_to_num(squares / scale, nan=1.0), 0.0)
        worst = int(parts.argmax())
        return float(min(parts[worst], 1.0)), None if len(parts) == 1 else worst


def output_in_words(name: str, found: Mapping[str, Any]) -> str:
    """The output of `Outputs.as_json`: "output y", "column 2 of output y"."""
    output = f"output {name}" if name else "the output"
    return output if found["column"] is None else f"column {found['column']} of {output}"
