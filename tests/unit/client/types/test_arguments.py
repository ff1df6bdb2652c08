"""What the checks of arguments accept, and what their errors say."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from servable_client import InvalidInput
from servable_client.types.arguments import (
    as_integer,
    as_number,
    as_seconds,
    check_function,
    check_name,
    check_names,
    check_text,
    shown,
)


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3), np.array(3)], ids=repr)
def test_integers_of_any_type_become_int(value: Any) -> None:
    found = as_integer("version", value, lowest=0)
    assert (found, type(found)) == (3, int)


@pytest.mark.parametrize(
    "value", [True, np.True_, 1.0, np.float64(1), "1", b"1", None, [1], -1, 11], ids=repr
)
def test_what_is_not_an_integer_in_range_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInput, match=r"^version must be an integer from 0 to 10, got "):
        as_integer("version", value, lowest=0, highest=10)


@pytest.mark.parametrize("value", [2.5, np.float32(2.5), Fraction(5, 2)], ids=repr)
def test_numbers_of_any_type_become_float(value: Any) -> None:
    found = as_number("share", value)
    assert (found, type(found)) == (2.5, float)


@pytest.mark.parametrize("value", ["2", True, None, 1j, 10**400], ids=lambda v: repr(v)[:9])
def test_what_is_not_a_number_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInput, match=r"^share must be a number, got "):
        as_number("share", value)


@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, 61, "5", None, True])
def test_what_is_not_a_duration_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInput, match=r"^timeout must be "):
        as_seconds("timeout", value, longest=60)


def test_a_duration_may_be_zero_where_that_is_said() -> None:
    assert as_seconds("timeout", 0, longest=60, zero=True) == 0
    assert as_seconds("maximum", math.inf, longest=math.inf, zero=True) == math.inf


def test_names_are_a_list_of_text() -> None:
    for value in (None, [], ["a"], ("a", "b"), {"a": 1}):
        check_names("output_filter", value)
    for wrong in ("a", b"a", 5, [5], [b"a"]):
        with pytest.raises(InvalidInput, match="output_filter"):
            check_names("output_filter", wrong)


def test_text_names_and_functions() -> None:
    check_text("signature", "")
    check_name("model", "shoes")
    check_function("on_request", print)
    check_function("on_request", None)
    for check, value in (
        (check_text, None),
        (check_name, 5),
        (check_name, ""),
        (check_function, 5),
    ):
        with pytest.raises(InvalidInput, match="model"):
            check("model", value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "None"),
        (True, "True"),
        ("3", "'3' (str)"),
        (2.5, "2.5 (float)"),
        (b"secret", "a value of type bytes"),
        ([1], "a value of type list"),
        ("x" * 100, "'" + "x" * 39 + "... (str)"),
    ],
    ids=lambda value: repr(value)[:12],
)
def test_a_value_in_a_message(value: Any, text: str) -> None:
    assert shown(value) == text
