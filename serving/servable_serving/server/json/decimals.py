"""Floats with the digits that TensorFlow Serving prints.

WriteDecimal in its util/json_tensor.cc prints six significant digits, and as many as may be needed,
nine for a float and seventeen for a double, where six do not identify the number. A double is
the same number either way; a float becomes the double that is nearest to its digits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FEW, _MANY = 6, 9
# As many values as fit into a processor's cache with what is computed of them; and as many as are
# formatted in less time than NumPy takes for its calls.
_CHUNK, _SMALL = 8192, 128
# The powers of ten that a double represents exactly.
_POWERS = 10.0 ** np.arange(23)
# A product of a double may be off by less than this before it is rounded to `_MANY` digits.
_DOUBT = 1e-6


def printed(array: NDArray[np.float32]) -> NDArray[np.float64]:
    """The doubles that readers of the printed digits get.

    Args:
        array: Any shape; NaN and infinities stay.
    """
    wide = array.astype(np.float64)
    flat = wide.reshape(-1)
    for start in range(0, flat.size, _CHUNK):
        _round(flat[start : start + _CHUNK])
    return wide


def _round(values: NDArray[np.float64]) -> None:
    """Round flat values in place, as far as a float needs."""
    finite = np.isfinite(values) & (values != 0)
    written = values[finite]
    if not written.size:
        return
    rounded = _rounded(written, _FEW)
    with np.errstate(over="ignore"):
        longer = rounded.astype(np.float32) != written
    if longer.any():
        rounded[longer] = _rounded(written[longer], _MANY)
    values[finite] = rounded


def _rounded(values: NDArray[np.float64], digits: int) -> NDArray[Any]:
    """Flat values, finite and not zero, with so many significant decimal digits."""
    if values.size <= _SMALL:
        return np.array(_formatted(values.tolist(), digits), np.float64)  # "%g" may omit the point
    shift = digits - 1 - np.floor(np.log10(np.abs(values))).astype(np.int64)
    power = _POWERS[np.minimum(np.abs(shift), len(_POWERS) - 1)]
    down = shift < 0
    scaled = np.where(down, values / power, values * power)
    whole = np.rint(scaled)
    rounded: NDArray[np.float64] = np.where(down, whole * power, whole / power)
    size, rest = np.abs(scaled), np.abs(np.abs(scaled - whole) - 0.5)
    doubtful = (
        (np.abs(shift) >= len(_POWERS))
        | (size < 10 ** (digits - 1))
        | (size >= 10**digits)
        | (rest < _DOUBT)
    )
    if doubtful.any():
        rounded[doubtful] = _formatted(values[doubtful].tolist(), digits)
    return rounded


def _formatted(values: list[float], digits: int) -> Any:
    """The same by formatting each value, which takes several times as long."""
    text = f"%.{digits}g," * len(values) % tuple(values)
    return orjson.loads(f"[{text[:-1]}]")
