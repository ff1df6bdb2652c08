"""Floats have the digits that TensorFlow Serving prints."""

from __future__ import annotations

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from servable_serving.server.json.decimals import printed


def by_printing(value: np.float32) -> float:
    """WriteDecimal of TensorFlow Serving, and a reader."""
    text = f"{float(value):.6g}"
    return float(text) if np.float32(float(text)) == value else float(f"{float(value):.9g}")


FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(st.integers(1, 3), FLOATS)
@example(1, 1e-45)
@example(1, float(np.finfo(np.float32).max))
@example(1, 100000.5)
@example(1, 999999.9375)
@example(1, 0.000030517578125)
def test_a_number_has_six_digits_or_nine(size: int, value: float) -> None:
    array = np.full((size, 2), value, np.float32)
    assert printed(array).tolist() == [[by_printing(array[0, 0])] * 2] * size


@given(hnp.arrays(np.float32, st.integers(129, 300), elements=FLOATS))
def test_many_numbers_have_the_digits_of_few(array: np.ndarray) -> None:
    assert printed(array).tolist() == [by_printing(value) for value in array]


def test_numbers_halfway_between_two_decimals() -> None:
    # Exactly representable, with a 5 behind the ninth digit.
    array = np.arange(1, 1 << 12, dtype=np.float32) / np.float32(1 << 12) + np.float32(16)
    assert printed(array).tolist() == [by_printing(value) for value in array]


def test_what_is_not_finite_stays() -> None:
    array = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0], np.float32)
    found = printed(array)
    np.testing.assert_array_equal(found, array.astype(np.float64))
    assert np.signbit(found[4])
