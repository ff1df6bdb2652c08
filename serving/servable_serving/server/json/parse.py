"""A request's body as JSON, read the way TensorFlow Serving reads it.

Three readers, the quick ones first: orjson, where it is sure to give what RapidJSON gives; the
standard library's, for repeated keys, NaN, text after the document and bytes that are not valid
UTF-8; and `rapidjson_reader`, for bodies that are malformed, unusual or deeply nested.
"""

from __future__ import annotations

import json
import re
from typing import Any

import orjson

from servable_serving.core.errors import invalid
from servable_serving.server.json.rapidjson_reader import JSONError, read_json
from servable_serving.server.json.rapidjson_values import show, to_object

_DECODER = json.JSONDecoder(object_pairs_hook=to_object)

# Where the standard library may differ: exponents and integers near the limits of a double, and
# halves of surrogate pairs. (It refuses RapidJSON's other names for infinity and NaN anyway.)
_UNUSUAL = re.compile(rb"[eE]\+?[0-9]{3}|[0-9]{309}|\\u[dD][89a-fA-F]")

_LARGE = re.compile(rb"\+?[0-9]{3}")

_BLANK = " \t\r\n"


def parse_body(body: bytes) -> dict[str, Any]:
    """The object in a request's body; text after it is ignored.

    Of a key that comes twice the first counts. Bytes that are no UTF-8 come as Python's
    surrogate escapes.

    Raises:
        ModelError: There is none, in RapidJSON's words.
    """
    if not body:
        raise invalid("JSON Parse error: The document is empty")
    value = _quick(body)
    if value is None:
        value = _standard(body)
    if value is None:
        try:
            value = read_json(body)
        except JSONError as error:
            raise invalid(f"JSON Parse error: {error.message} at offset: {error.offset}") from None
    if not isinstance(value, dict):
        raise invalid(f"JSON Value: {show(value)} Is not object")
    return value


def read_signature_name(request: dict[str, Any]) -> str:
    """The signature that a request names; empty if it names none.

    Raises:
        ModelError: It is not a string.
    """
    name = request.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid(
            f"JSON Value: {show(request)} not formatted correctly. 'signature_name' key must be a "
            "string value.",
        )
    return name


def _quick(body: bytes) -> dict[str, Any] | None:
    """The result of orjson, or None if it might differ from RapidJSON's.

    orjson takes less than RapidJSON, but for `0e309`, and keeps the last of repeated keys. Every
    key has a colon, so where there are as many colons as keys that can be seen, none came twice.
    """
    if _has_large_exponent(body):
        return None
    try:
        value = orjson.loads(body)
        sure = type(value) is dict and body.count(b":") == _keys(value)
    except (orjson.JSONDecodeError, RecursionError):
        return None
    return value if sure else None


def _has_large_exponent(body: bytes) -> bool:
    """Whether there may be a zero with an exponent that is too big, such as `0e309`."""
    # Searching for one letter is much faster, and most bodies have no capital E.
    for mark in (b"0e", b"0E") if b"E" in body else (b"0e",):
        at = body.find(mark)
        while at >= 0:
            if _LARGE.match(body, at + 2):
                return True
            at = body.find(mark, at + 2)
    return False


def _keys(value: Any) -> int:
    """A lower bound of the number of keys in objects; fast for lists of numbers."""
    if type(value) is dict:
        return len(value) + sum(map(_keys, value.values()))
    if type(value) is list and value and type(value[0]) in (dict, list):
        return sum(map(_keys, value)) if type(value[0]) is dict else _keys(value[0])
    return 0


def _standard(body: bytes) -> dict[str, Any] | None:
    """The standard library's result, or None if it fails or might differ from RapidJSON's."""
    if _UNUSUAL.search(body):
        return None
    text = body.decode("utf-8", "surrogateescape").lstrip(_BLANK)
    try:
        value, _ = _DECODER.raw_decode(text)
    except (ValueError, RecursionError):
        return None
    # What stands alone may end in what the standard library takes for the text after it.
    return value if isinstance(value, dict) else None
