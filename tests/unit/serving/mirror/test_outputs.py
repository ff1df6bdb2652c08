"""How far numbers, and text, are apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from servable_serving.mirror.outputs import Outputs, output_in_words

if TYPE_CHECKING:
    from numpy.typing import NDArray

DRAW = np.random.default_rng(8)


def apart(version: Any, against: NDArray[Any], *, parts: int = 1) -> tuple[float, int | None]:
    """How far, and in which column, with the rows in some requests."""
    outputs = Outputs()
    if version is None:
        outputs.add("y", None, against)
    else:
        for one, other in zip(
            np.array_split(version, parts), np.array_split(against, parts), strict=True
        ):
            outputs.add("y", one, other)
    found = outputs.as_json()["y"]
    assert found["rows"] == len(against)
    return found["apart"], found["column"]


@pytest.mark.parametrize("parts", [1, 7, 100])
@pytest.mark.parametrize("shape", [(1000,), (1000, 1), (1000, 5), (1000, 8, 8, 3)])
@pytest.mark.parametrize("noise", [0.0, 0.1, 0.4])
def test_it_is_the_variance_that_is_not_explained(
    shape: tuple[int, ...], noise: float, parts: int
) -> None:
    values = DRAW.normal(1000, 3, shape)
    other = values + DRAW.normal(0, 3 * noise, shape)
    found, _ = apart(other, values, parts=parts)
    assert found == pytest.approx(noise**2, rel=0.3)


def test_values_in_another_order_are_apart_although_their_distribution_is_the_same() -> None:
    values = DRAW.normal(0, 1, 1000)
    assert apart(values[::-1], values) == (1.0, None)


def test_each_quantity_has_a_scale_of_its_own() -> None:
    prices = DRAW.normal(100_000, 20_000, 500)
    rooms = DRAW.normal(3, 1, 500)
    values = np.stack([prices, rooms], axis=1)
    found, column = apart(np.stack([prices, rooms[::-1]], axis=1), values)
    assert (found, column) == (1.0, 1)


def test_probabilities_have_one_scale() -> None:
    """A class that hardly occurs is not all that counts."""
    often, rarely = DRAW.uniform(0, 1, 500), DRAW.uniform(0, 0.001, 500)
    values = np.stack([often, rarely], axis=1)
    found, column = apart(np.stack([often, rarely[::-1]], axis=1), values)
    assert found < 0.001
    assert column is None


def test_rounding_is_no_difference_even_of_a_constant() -> None:
    values = np.full(100, 7.0, np.float32)
    assert apart(values + np.float32(1e-6), values)[0] < 1e-9
    assert apart(values * 0 + 1e-9, values * 0) == (0.0, None)


def test_a_constant_is_compared_with_its_size() -> None:
    values = np.full((100, 1), 10.0)
    assert apart(values + 1, values)[0] == pytest.approx(0.01)
    assert apart(values + 1, values * 0)[0] == 1


@pytest.mark.parametrize("dtype", [np.int64, np.bool_, np.uint8, np.float16])
def test_all_numbers_are_numbers(dtype: type[np.generic]) -> None:
    values = DRAW.integers(0, 2, 400).astype(dtype)
    assert apart(values, values) == (0.0, None)
    assert apart(1 - values.astype(np.int64), values) == (1.0, None)


def test_nan_is_nan() -> None:
    values = DRAW.normal(0, 1, 100)
    values[:10] = np.nan
    assert apart(values, values) == (0.0, None)
    other = values.copy()
    other[50:75] = np.inf
    assert apart(other, values)[0] == pytest.approx(0.25)


def test_numbers_beyond_squares_are_apart() -> None:
    values = DRAW.normal(0, 1e200, 100)
    assert apart(values, values)[0] == 0
    assert apart(-values, values)[0] == 1


def test_text_is_apart_by_its_share() -> None:
    values = np.array([b"a", b"b", b"c", b"d"], object)
    assert apart(values, values) == (0.0, None)
    assert apart(np.array([b"a", b"x", b"c", b"x"], object), values) == (0.5, None)


@pytest.mark.parametrize("version", [None, np.zeros((10, 4)), np.array(["a"] * 10)])
def test_what_cannot_be_compared_is_apart(version: NDArray[Any] | None) -> None:
    assert apart(version, np.zeros((10, 3)))[0] == 1 or version is not None
    outputs = Outputs()
    outputs.add("y", version, np.zeros((10, 3)))
    assert outputs.as_json()["y"]["apart"] == 1


def test_sizes_that_differ_between_requests_are_taken_together() -> None:
    outputs, flat, other = Outputs(), [], []
    for size in (5, 3, 9, 5):
        values = DRAW.normal(size, 1, (6, size))
        moved = values + DRAW.normal(0, 0.5, values.shape)
        outputs.add("y", moved, values)
        flat.append(values.ravel())
        other.append(moved.ravel())
    one, two = np.concatenate(flat), np.concatenate(other)
    expected = ((two - one) ** 2).sum() / ((one - one.mean()) ** 2).sum()
    found = outputs.as_json()["y"]
    assert (found["apart"], found["column"]) == (pytest.approx(expected, rel=1e-3), None)


def test_a_scalar_and_nothing_at_all() -> None:
    outputs = Outputs()
    outputs.add("loss", np.array(0.5), np.array(0.5, np.float32))
    outputs.add("none", np.zeros((0, 3)), np.zeros((0, 3)))
    found = outputs.as_json()
    assert found["loss"] == {"rows": 1, "apart": 0.0, "column": None}
    assert found["none"] == {"rows": 0, "apart": 0.0, "column": None}


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30),
    st.integers(1, 5),
    st.floats(-100, 100),
)
def test_it_is_a_share_however_the_rows_are_asked(
    values: list[float], parts: int, moved: float
) -> None:
    array = np.array(values)
    found, _ = apart(array + moved, array, parts=parts)
    assert 0 <= found <= 1
    whole, _ = apart(array + moved, array)
    assert found == pytest.approx(whole, abs=1e-6)


def test_outputs_in_words() -> None:
    assert output_in_words("y", {"column": None}) == "output y"
    assert output_in_words("", {"column": 2}) == "column 2 of the output"
