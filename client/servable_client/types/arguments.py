"""Checks of arguments: one sentence that names the argument, what it takes and what was given."""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from servable_client._errors import InvalidInput

if TYPE_CHECKING:
    from typing import NoReturn

_MAX_NAME = 1000
_MAX_SHOWN = 40
_INT64 = (1 << 63) - 1


def shown(value: object) -> str:
    """A value in a message; only the type of what is long, or may be a secret."""
    if value is None or isinstance(value, bool):
        return repr(value)
    kind = type(value).__name__
    if isinstance(value, str | numbers.Number):
        text = repr(value)
        short = text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."
        return f"{short} ({kind})"
    return f"a value of type {kind}"


def refuse(name: str, wanted: str, value: object) -> NoReturn:
    """Raise the error for an argument that is not what is wanted.

    Raises:
        InvalidInput: Always.
    """
    raise InvalidInput(f"{name} must be {wanted}, got {shown(value)}")


def check_type(name: str, value: object, kinds: Any, wanted: str) -> None:
    """Check the type of an argument.

    Raises:
        InvalidInput: It is of none of these types.
    """
    if not isinstance(value, kinds):
        refuse(name, wanted, value)


def check_function(name: str, value: object) -> None:
    """Check that an argument is a function, or None.

    Raises:
        InvalidInput: It is neither.
    """
    if value is not None and not callable(value):
        refuse(name, "a function", value)


def check_text(name: str, value: object) -> None:
    """Check that an argument is text.

    Raises:
        InvalidInput: It is not.
    """
    if not isinstance(value, str):
        refuse(name, "text", value)


def check_name(what: str, value: object) -> None:
    """Check the name of a model or label.

    Raises:
        InvalidInput: It is not text, or is empty, too long, or contains control characters.
    """
    if not isinstance(value, str):
        refuse(what, f'the name of a {what}, as text: {what}="..."', value)
    if not (value and value.isprintable() and len(value) <= _MAX_NAME):
        raise InvalidInput(
            f"invalid {what} name {value!r:.40}",
            hint=f"a name is 1 to {_MAX_NAME} printable characters",
        )


def check_names(name: str, value: object) -> None:
    """Check that an argument is a list of names, or None.

    Raises:
        InvalidInput: It is not.
    """
    if value is None:
        return
    if isinstance(value, str):
        raise InvalidInput(f"{name} must be a list of names", hint=f"pass a list: [{value!r}]")
    if isinstance(value, bytes) or not isinstance(value, Iterable):
        refuse(name, 'a list of names, ["scores"] for example', value)
    for item in value:
        if not isinstance(item, str):
            refuse(f"each name in {name}", "text", item)


def as_integer(name: str, value: object, *, lowest: int, highest: int | None = None) -> int:
    """An integer of any type, of NumPy for example.

    Raises:
        InvalidInput: It is not an integer, or out of range.
    """
    # The limits of int64 explain nothing.
    endless = highest is None or highest >= _INT64
    limits = f"of {lowest} or more" if endless else f"from {lowest} to {highest}"
    try:
        number = None if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = None
    if number is None or number < lowest or (highest is not None and number > highest):
        refuse(name, f"an integer {limits}", value)
    return number


def as_number(name: str, value: object, wanted: str = "a number") -> float:
    """A number of any type; it may be infinite or NaN.

    Raises:
        InvalidInput: It is not a number.
    """
    if type(value) is float:
        return value
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        refuse(name, wanted, value)
    try:
        return float(value)
    except OverflowError:
        refuse(name, wanted, value)


def as_seconds(name: str, value: object, *, longest: float, zero: bool = False) -> float:
    """A duration in seconds.

    Raises:
        InvalidInput: It is not a number, negative, zero unless that is allowed, or too long.
    """
    seconds = as_number(name, value, "a number of seconds, 5.0 for example")
    if not (seconds >= 0 if zero else seconds > 0) or not seconds <= longest:
        lowest = "0 s or more" if zero else "positive"
        limits = lowest if longest == math.inf else f"{lowest} and at most {longest:g} s"
        raise InvalidInput(f"{name} must be {limits}, got {seconds:g} s")
    return seconds
