"""JSON as RapidJSON 1.1.0 reads it: what it accepts, and its error messages and offsets.

TensorFlow Serving hands a body to RapidJSON's iterative parser with `kParseNanAndInfFlag` and
`kParseStopWhenDoneFlag`. That takes more than JSON (`NaN`, `-Inf`, invalid UTF-8, any
depth, anything after the document) and its errors are part of the answer. python-rapidjson
wraps a later version and its recursive parser: other words for control characters and for a body
that begins with a bracket, and a limit of 1,000 levels. This reader is slow, and meant for the
few bodies that are malformed or unusual; see `parse` for the rest.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

from servable_serving.server.json.rapidjson_values import to_object

_EMPTY = "The document is empty."
_VALUE = "Invalid value."
_NAME = "Missing a name for object member."
_COLON = "Missing a colon after a name of object member."
_OBJECT_COMMA = "Missing a comma or '}' after an object member."
_ARRAY_COMMA = "Missing a comma or ']' after an array element."
_HEX = "Incorrect hex digit after \\u escape in string."
_SURROGATE = "The surrogate pair in string is invalid."
_ESCAPE = "Invalid escape character in string."
_QUOTE = "Missing a closing quotation mark in string."
_TOO_BIG = "Number too big to be stored in double."
_FRACTION = "Miss fraction part in number."
_EXPONENT = "Miss exponent in number."

# Each of the three bytes of a byte order mark is skipped on its own.
_BYTE_ORDER_MARK = re.compile(rb"\xef?\xbb?\xbf?")
_BLANKS = re.compile(rb"[ \t\r\n]*+")
_PLAIN = re.compile(rb'[^"\\\x00-\x1f]*+')
_HEX4 = re.compile(rb"[0-9a-fA-F]{4}")
_INTEGER = re.compile(rb"-?(?:0|[1-9][0-9]*+)")
_DIGITS = re.compile(rb"[0-9]*+")
# Plain numbers in a list, as in images: left to a parser in C.
_NUMBERS = re.compile(
    rb"N(?:[ \t\r\n]*+,[ \t\r\n]*+N)*+".replace(
        b"N",
        rb"-?(?:0|[1-9][0-9]{0,17}+)(?:\.[0-9]{1,20}+)?+(?:[eE]-?[0-9]{1,2}+)?+"
        rb"(?=[ \t\r\n]*+[,\]])",
    )
)
_WORDS = {b"n": (b"null", None), b"t": (b"true", True), b"f": (b"false", False)}
_ESCAPES = dict(
    zip(b'"/\\bfnrt', (b'"', b"/", b"\\", b"\b", b"\f", b"\n", b"\r", b"\t"), strict=True)
)

_MOST = 1.7976931348623157e307  # a tenth of the largest double

# Not in RapidJSON: a body of brackets only must not take a hundred times its size in memory.
_DEEPEST = 100_000


class JSONError(ValueError):
    """The text is not valid JSON.

    Attributes:
        offset: The byte at which RapidJSON reports the error.
    """

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.message = message
        self.offset = offset


def read_json(data: bytes) -> Any:
    """The value at the beginning of a text; text after it is ignored.

    Bytes that are no UTF-8 come as Python's surrogate escapes.

    Raises:
        JSONError: There is none.
    """
    # RapidJSON's streams end in a zero byte, so that one in the text ends it too.
    text = data.partition(b"\0")[0]
    return _Reader(text).read()


class _Reader:
    """Reads one text; `at` is the byte that comes next."""

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.at = _BYTE_ORDER_MARK.match(text).end()  # type: ignore[union-attr]

    def read(self) -> Any:
        """The value; a loop rather than recursion, for any depth."""
        # The open containers: a list, or an object's members so far and its pending key.
        open_: list[tuple[list[Any], bool]] = []
        keys: list[str] = []
        value = self._opens(_EMPTY)
        while True:
            if value is _OPEN_ARRAY or value is _OPEN_OBJECT:
                inner: list[Any] = []
                if len(open_) == _DEEPEST:
                    raise JSONError(f"More than {_DEEPEST} levels of nesting.", self.at - 1)
                open_.append((inner, value is _OPEN_OBJECT))
                if value is _OPEN_OBJECT:
                    if self._key(keys, closing=b"}"):
                        value = self._opens(_VALUE)
                        continue
                else:
                    value = self._opens(_VALUE, closing=b"]", into=inner)
                    if value is not _CLOSED:
                        continue
                value = {} if open_.pop()[1] else inner
            # A value is complete: add it to the open container, and close that at a bracket.
            while True:
                if not open_:
                    return value
                inner, is_object = open_[-1]
                inner.append((keys.pop(), value) if is_object else value)
                mark = self._peek()
                if mark == b",":
                    self.at += 1
                    if is_object:
                        self._key(keys)
                    value = self._opens(_VALUE, into=None if is_object else inner)
                    break
                if mark != (b"}" if is_object else b"]"):
                    raise JSONError(_OBJECT_COMMA if is_object else _ARRAY_COMMA, self.at)
                self.at += 1
                open_.pop()
                value = to_object(inner) if is_object else inner

    def _peek(self) -> bytes:
        self.at = _BLANKS.match(self.text, self.at).end()  # type: ignore[union-attr]
        return self.text[self.at : self.at + 1]

    def _opens(self, words: str, *, closing: bytes = b"", into: list[Any] | None = None) -> Any:
        """A plain value, or the mark of a container that opens (or, if it may, closes).

        Of several numbers in a list the last is given, and the others go into the list.
        """
        mark = self._peek()
        if mark == closing != b"":
            self.at += 1
            return _CLOSED
        if mark in (b"", b",", b":", b"]", b"}"):
            raise JSONError(words, self.at)
        if mark == b"{":
            self.at += 1
            return _OPEN_OBJECT
        if mark == b"[":
            self.at += 1
            return _OPEN_ARRAY
        if mark == b'"':
            return self._string()
        if mark in _WORDS:
            return self._word(*_WORDS[mark])
        if into is not None and (numbers := _NUMBERS.match(self.text, self.at)):
            self.at = numbers.end()
            into += orjson.loads(b"[%b]" % numbers[0])
            return into.pop()
        return self._number()

    def _key(self, keys: list[str], *, closing: bytes = b"") -> bool:
        """Read a key and its colon; False if the object closes instead."""
        mark = self._peek()
        if mark == closing != b"":
            self.at += 1
            return False
        if mark != b'"':
            raise JSONError(_NAME, self.at)
        keys.append(self._string())
        if self._peek() != b":":
            raise JSONError(_COLON, self.at)
        self.at += 1
        return True

    def _word(self, word: bytes, value: Any) -> Any:
        for letter in word:
            if self.text[self.at : self.at + 1] != bytes([letter]):
                raise JSONError(_VALUE, self.at)
            self.at += 1
        return value

    def _string(self) -> str:
        self.at += 1
        parts = []
        while True:
            plain = _PLAIN.match(self.text, self.at)
            assert plain is not None
            parts.append(plain[0])
            self.at = plain.end()
            mark = self.text[self.at : self.at + 1]
            if mark == b'"':
                self.at += 1
                return b"".join(parts).decode("utf-8", "surrogateescape")
            if mark != b"\\":
                raise JSONError(_ESCAPE if mark else _QUOTE, self.at)
            parts.append(self._escape())

    def _escape(self) -> bytes:
        start = self.at
        letter = self.text[start + 1 : start + 2]
        if letter and letter[0] in _ESCAPES:
            self.at += 2
            return _ESCAPES[letter[0]]
        if letter != b"u":
            raise JSONError(_ESCAPE, start)
        code = self._hex(start)
        if 0xD800 <= code <= 0xDBFF:
            if self.text[self.at : self.at + 2] != b"\\u":
                raise JSONError(_SURROGATE, start)
            low = self._hex(start)
            if not 0xDC00 <= low <= 0xDFFF:
                raise JSONError(_SURROGATE, start)
            code = ((code - 0xD800) << 10 | (low - 0xDC00)) + 0x10000
        # A lone second half of a surrogate pair is accepted, and encoded as three bytes.
        return chr(code).encode("utf-8", "surrogatepass")

    def _hex(self, start: int) -> int:
        digits = _HEX4.match(self.text, self.at + 2)
        if digits is None:
            raise JSONError(_HEX, start)
        self.at = digits.end()
        return int(digits[0], 16)

    def _number(self) -> float:
        start = self.at
        integer = _INTEGER.match(self.text, start)
        if integer is not None:
            self.at = integer.end()
            whole, value = integer[0], None
        else:
            # A fraction or an exponent may follow a word, and then the word counts as a zero.
            value = self._not_finite()
            whole = b"-0" if self.text[start : start + 1] == b"-" else b"0"
        digits, after = whole.lstrip(b"-"), self.at
        if len(digits) > 308 and (len(digits) > 309 or float(digits[:308]) >= _MOST):
            raise JSONError(_TOO_BIG, start)
        fraction = b""
        if self.text[self.at : self.at + 1] == b".":
            fraction = self._digits(1, _FRACTION)
        if self.text[self.at : self.at + 1] in (b"e", b"E"):
            sign = self.text[self.at + 1 : self.at + 2]
            exponent = self._digits(2 if sign in (b"+", b"-") else 1, _EXPONENT)
            # RapidJSON looks at the exponent alone: `0e309` is too big, and `9e308` is not.
            exponent = exponent.lstrip(b"0")
            most = 308 + _shift(digits, fraction)
            if sign != b"-" and (len(exponent) > 9 or int(exponent or b"0") > most):
                raise JSONError(_TOO_BIG, start)
        if self.at == after:
            return int(whole) if value is None else value
        return float(whole + self.text[after : self.at])

    def _digits(self, skip: int, words: str) -> bytes:
        if self.at + skip > len(self.text):
            raise JSONError(words, len(self.text))
        digits = _DIGITS.match(self.text, self.at + skip)
        assert digits is not None
        if not digits[0]:
            raise JSONError(words, digits.start())
        self.at = digits.end()
        return digits[0]

    def _not_finite(self) -> float:
        negative = self._takes(b"-")
        if self._takes(b"N") and self._takes(b"a") and self._takes(b"N"):
            return float("nan")
        if not (self._takes(b"I") and self._takes(b"n") and self._takes(b"f")):
            raise JSONError(_VALUE, self.at)
        if self.text[self.at : self.at + 1] == b"i":
            self._word(b"inity", None)
        return float("-inf") if negative else float("inf")

    def _takes(self, letter: bytes) -> bool:
        found = self.text[self.at : self.at + 1] == letter
        self.at += found
        return found


# The result of `_opens` if there is no plain value.
_OPEN_OBJECT, _OPEN_ARRAY, _CLOSED = object(), object(), object()


def _shift(digits: bytes, fraction: bytes) -> int:
    """How many digits of a fraction RapidJSON takes into the significand."""
    if len(digits) > 19:
        return 0
    whole = int(digits)
    if whole >= 1 << 64:
        return 0
    significant, taken = len(digits) - 1, 0
    for digit in fraction:
        if whole >= 1 << 53 and significant >= 17:
            break
        whole = whole * 10 + digit - ord("0")
        significant += whole > 0
        taken += 1
    return taken
