"""What an object in JSON may be besides a mapping: one with repeated keys, or bytes in base64."""

from __future__ import annotations

import binascii
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

# Spaces anywhere, padding that may be dots and may be missing.
_SPACES = re.compile("[ \t\n\v\f\r]+")
_LENIENT = re.compile(r"([A-Za-z0-9+/]*+)([=.]*+)")


class Repeated(dict[str, Any]):
    """An object in which a key comes twice: the first counts, and `pairs` has them all."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(reversed(pairs))
        self.pairs = pairs


def to_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of these members, whose first key wins where one comes twice."""
    members = dict(pairs)
    return members if len(members) == len(pairs) else Repeated(pairs)


def pairs_of(members: dict[str, Any]) -> Iterable[tuple[str, Any]]:
    """The members of an object as they were written, repeated keys included."""
    return members.pairs if isinstance(members, Repeated) else members.items()


def is_base64(value: Any) -> bool:
    """Whether a JSON value stands for bytes: an object of the one key `b64`, and that a string."""
    return (
        isinstance(value, dict)
        and isinstance(value.get("b64"), str)
        and len(getattr(value, "pairs", value)) == 1
    )


def decode_base64(text: str) -> bytes | None:
    """The bytes, as abseil's Base64Unescape reads them; None where the text is no base64."""
    # Strict as it calls itself, it takes padding that is not needed.
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
