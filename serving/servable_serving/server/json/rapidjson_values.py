"""JSON values in TensorFlow Serving's errors: as RapidJSON prints them, and their types."""

from __future__ import annotations

import binascii
import math
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

# A value in an error is cut off after the piece that goes beyond this many bytes.
_MOST_BYTES = 256

_ESCAPES = {code: f"\\u{code:04X}" for code in range(32)} | str.maketrans(
    {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
)


def is_double(value: float) -> bool:
    """Whether RapidJSON holds a number as a double: it does with integers beyond 64 bits."""
    return isinstance(value, float) or not -(1 << 63) <= value < 1 << 64


def type_word(value: Any) -> str:
    """RapidJSON's name of a value's type."""
    if value is None:
        return "Null"
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, str):
        return "String"
    if isinstance(value, dict):
        return "Object"
    return "Array" if isinstance(value, list) else "Number"


def show(value: Any) -> str:
    """A value as RapidJSON's PrettyWriter prints it, arrays on one line, long ones cut off."""
    printed = _Printed()
    printed.add(value, 0)
    return printed.data.decode("utf-8", "surrogateescape")


def quote(text: str) -> str:
    """A JSON string as RapidJSON writes it: what is not ASCII stays as it is."""
    return f'"{text.translate(_ESCAPES)}"'


def write_error(message: str) -> bytes:
    """The body of an error response; bytes that are not valid UTF-8 are returned unchanged."""
    return f'{{\n    "error": {quote(message)}\n}}'.encode("utf-8", "surrogateescape")


class _Printed:
    def __init__(self) -> None:
        self.data = bytearray()

    def put(self, text: str) -> None:
        self.data += text.encode("utf-8", "surrogateescape")

    def full(self) -> bool:
        return len(self.data) >= _MOST_BYTES

    def add(self, value: Any, depth: int) -> bool:
        """Print a value; False if it was cut off, after which nothing may follow."""
        if isinstance(value, dict):
            return self._add_object(value, depth)
        if isinstance(value, list):
            return self._add_array(value, depth)
        if isinstance(value, str):
            self.put(quote(value))
        elif value is None or isinstance(value, bool):
            self.put(str(value).lower() if value is not None else "null")
        elif not is_double(value):
            self.put(str(value))
        elif math.isfinite(number := float(value)):
            self.put(_double(number))
        else:
            return False  # the writer cannot write it, and stops
        return True

    def _add_array(self, items: list[Any], depth: int) -> bool:
        self.put("[")
        for index, item in enumerate(items):
            if self.full():
                return False
            self.put(", " if index else "")
            if not self.add(item, depth + 1):
                return False
        if self.full():
            return False
        self.put("]")
        return True

    def _add_object(self, members: dict[str, Any], depth: int) -> bool:
        indent = "\n" + " " * 4 * (depth + 1)
        self.put("{")
        for index, (key, item) in enumerate(pairs_of(members)):
            if self.full():
                return False
            self.put(("," if index else "") + indent + quote(key))
            if self.full():
                return False
            self.put(": ")
            if not self.add(item, depth + 1):
                return False
        if self.full():
            return False
        self.put((indent[:-4] if members else "") + "}")
        return True


def _double(number: float) -> str:
    """A double as RapidJSON prints it: the shortest digits, with a point or an exponent."""
    sign, digits, shift = Decimal(repr(number)).normalize().as_tuple()
    assert isinstance(shift, int)
    text = "".join(map(str, digits))
    point = len(text) + shift
    if not number:
        text = "0.0"
    elif shift >= 0 and point <= 21:
        text = f"{text}{'0' * shift}.0"
    elif 0 < point <= 21:
        text = f"{text[:point]}.{text[point:]}"
    elif -6 < point <= 0:
        text = f"0.{'0' * -point}{text}"
    else:
        text = f"{text[0]}{'.' if text[1:] else ''}{text[1:]}e{point - 1}"
    return f"-{text}" if sign else text


# Spaces anywhere, padding that may be dots and may be missing.
_SPACES = re.compile("[ \t\n\v\f\r]+")
_LENIENT = re.compile(r"([A-Za-z0-9+/]*+)([=.]*+)")


class Repeated(dict[str, Any]):
    """An object with repeated keys: the first of each counts, and `pairs` has them all."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(reversed(pairs))
        self.pairs = pairs


def to_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of these members, of which the first counts if a key is repeated."""
    members = dict(pairs)
    return members if len(members) == len(pairs) else Repeated(pairs)


def pairs_of(members: dict[str, Any]) -> Iterable[tuple[str, Any]]:
    """The members of an object as they were written, repeated keys included."""
    return members.pairs if isinstance(members, Repeated) else members.items()


def is_base64(value: Any) -> bool:
    """Whether a JSON value encodes bytes: an object with `b64`, a string, as its only key."""
    return (
        isinstance(value, dict)
        and isinstance(value.get("b64"), str)
        and len(getattr(value, "pairs", value)) == 1
    )


def decode_base64(text: str) -> bytes | None:
    """The bytes, as abseil's Base64Unescape reads them; None if it is not valid base64."""
    # Although it calls itself strict, it accepts padding that is not needed.
    if len(text) % 4 == 0 and not text.endswith("==="):
        try:
            return binascii.a2b_base64(text, strict_mode=True)
        except ValueError:
            pass
    found = _LENIENT.fullmatch(_SPACES.sub("", text))
    if found is None:
        return None
    data, padding = found.groups()
    missing = -len(data) % 4
    if missing == 3 or len(padding) not in (0, missing):
        return None
    return binascii.a2b_base64(data + "=" * missing)
