"""Protocol Buffers' varints: seven bits per byte, the lowest first; the eighth marks continuation.

https://protobuf.dev/programming-guides/encoding/#varints
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from servable_client._errors import InvalidInput

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Bytes of a number of 32 and of 64 bits.
_MOST_BYTES, _MOST_BYTES_64 = 5, 10
# As many numbers as fit into a processor's cache with what is computed of them.
_CHUNK = 1 << 13
_NARROW = {np.dtype(np.uint8), np.dtype(np.uint16)}


def varint(number: int) -> bytes:
    """A number that is not negative."""
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    found.append(number)
    return bytes(found)


def varints(numbers: NDArray[Any]) -> bytes:
    """The integers of an array, one behind the other, as in a packed field.

    Args:
        numbers: Any shape; integers or booleans. Negative ones take ten bytes.
    """
    flat = np.ascontiguousarray(numbers).ravel()
    if not flat.size:
        return b""
    if int(flat.min()) >= 0 and int(flat.max()) < 128:
        return flat.astype(np.uint8).tobytes()
    return b"".join(_packed(flat[at : at + _CHUNK]) for at in range(0, flat.size, _CHUNK))


def _packed(numbers: NDArray[Any]) -> bytes:
    """Flat integers as varints."""
    if numbers.dtype in _NARROW:
        bits: NDArray[Any] = numbers.astype(np.uint32)
    else:
        bits = numbers if numbers.dtype == np.uint64 else numbers.astype(np.int64).view(np.uint64)
    width = max((int(bits.max()).bit_length() + 6) // 7, 1)
    # A column for each byte: the first is written, and a further one if the one before continues.
    cells = np.empty((len(bits), width), np.uint8)
    written = np.ones((len(bits), width), np.bool_)
    for index in range(width):
        more = bits > 127
        cells[:, index] = bits & 127
        cells[:, index] |= more.view(np.uint8) << np.uint8(7)
        if index + 1 < width:
            written[:, index + 1] = more
        bits = bits >> 7
    return cells[written].tobytes()


def unpack(data: bytes) -> NDArray[np.uint64]:
    """The numbers of a packed field.

    Raises:
        InvalidInput: The last one is cut off, or one has more than ten bytes.
    """
    cells = np.frombuffer(data, np.uint8)
    if data.isascii():  # each number is below 128
        return cells.astype(np.uint64)
    ends = np.flatnonzero(cells < 128)
    if len(cells) and (not len(ends) or ends[-1] != len(cells) - 1):
        raise InvalidInput("a number is cut off")
    starts = np.concatenate([np.zeros(1, ends.dtype), ends[:-1] + 1])[: len(ends)]
    numbers = np.zeros(len(ends), np.uint64)
    for at in range(0, len(ends), _CHUNK):
        chunk = slice(at, at + _CHUNK)
        _unpack(cells, starts[chunk], ends[chunk], numbers[chunk])
    return numbers


def _unpack(
    cells: NDArray[np.uint8],
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    numbers: NDArray[np.uint64],
) -> None:
    """Write the numbers between some positions of their bytes, which are zero before."""
    widths = ends - starts + 1
    widest = int(widths.max())
    if widest > _MOST_BYTES_64:
        raise InvalidInput("a number has more than 64 bits")
    numbers |= cells[starts] & np.uint8(127)
    for index in range(1, widest):
        longer = np.flatnonzero(widths > index)
        parts = (cells[starts[longer] + index] & np.uint8(127)).astype(np.uint64)
        numbers[longer] |= parts << np.uint64(7 * index)


def read_varints(data: bytes, count: int) -> tuple[list[int], int]:
    """The first `count` numbers of 32 bits in `data`, and the position behind them.

    Raises:
        InvalidInput: There are fewer, or one has more bits.
    """
    found: list[int] = []
    at = 0
    if count > len(data):
        raise InvalidInput(f"{len(data)} bytes do not contain {count} numbers")
    while len(found) < count:
        number = 0
        for index in range(_MOST_BYTES):
            if at + index >= len(data):
                raise InvalidInput("a number is cut off")
            byte = data[at + index]
            number |= (byte & 127) << 7 * index
            if byte < 128:
                break
        else:
            raise InvalidInput("a number has more than 32 bits")
        at += index + 1
        found.append(number & 0xFFFFFFFF)
    return found, at
