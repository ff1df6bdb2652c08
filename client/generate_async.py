"""Writes `_async_client.py`: `AsyncClient` is `Client` with `await`, so that one is maintained.

`make async` runs this, then ruff. The replacements are regular expressions, in this order; a new
method needs none of its own.
"""

from __future__ import annotations

import re
from pathlib import Path

FOLDER = Path(__file__).parent / "servable_client"
SOURCE, TARGET = FOLDER / "_client.py", FOLDER / "_async_client.py"

HEADER = (
    "# Generated from _client.py by client/generate_async.py; edit that file, then: make async\n"
)

CLASS = '''class AsyncClient(BaseClient):
    """`Client` for asyncio: the same arguments, and methods to await.

    Several event loops may use it; close it in one of them. A function for `api_key` or `token`
    may be asynchronous; `on_request` and `on_response` are plain functions.

    Example:
        >>> async def ask():
        ...     async with AsyncClient(server, model="fashion_mnist") as client:
        ...         return await client.classify("boot.png")
        >>> print(asyncio.run(ask()))
        Ankle boot (99.6%)
    """
'''

# Not coroutines: the first is called by the constructor, the second returns an iterator.
_PLAIN = "_open|classify_many"
# A call of a method in an example, with its arguments, which have brackets of one level at most.
_CALL = rf"client\.(?!{_PLAIN})\w+\((?:[^()]|\([^()]*\))*\)"

CODE = (
    # Names.
    (r'^"""The client\."""', '"""The client for asyncio."""'),
    (r"^class Client\(BaseClient\):\n    __doc__ = .*\n", CLASS),
    (r"\bClient\(", "AsyncClient("),
    (r"\bDriver\b", "AsyncDriver"),
    (r"\bOnError, check, stream$", "OnError, astream, check"),
    (r"\breturn stream\(", "return astream("),
    (r"\bIterable, Iterator,", "AsyncIterable, AsyncIterator, Iterable,"),
    (r": Iterable\[(\w+)\]", r": Iterable[\1] | AsyncIterable[\1]"),
    (r"-> Iterator\[", "-> AsyncIterator["),
    (r"\b__(enter|exit)__\b", r"__a\1__"),
    # Coroutines.
    (rf"^    def (?!{_PLAIN})", "    async def "),
    (r"(?<!lambda chunk: )\bself\._driver\.(run|close)\(", r"await self._driver.\1("),
    (r"\bself\.(metadata|close)\(", r"await self.\1("),
)
# In examples, which doctest marks.
EXAMPLES = (
    (r"\bfor answer in\b", "async for answer in"),
    (rf"({_CALL})(?=[.\[])", r"(await \1)"),
    (rf"(?<!await )({_CALL})", r"await \1"),
)


def generated(source: str) -> str:
    """The asynchronous client for the source of the other one."""
    for pattern, replacement in CODE:
        source = re.sub(pattern, replacement, source, flags=re.MULTILINE)
    lines = source.splitlines(keepends=True)
    for number, line in enumerate(lines):
        if line.lstrip().startswith((">>>", "... ")):
            for pattern, replacement in EXAMPLES:
                lines[number] = re.sub(pattern, replacement, lines[number])
    return HEADER + "".join(lines)


if __name__ == "__main__":
    TARGET.write_text(generated(SOURCE.read_text()))
