"""Image files with bytes changed: an exported graph alone, and the SDK, outlive each of them.

The files are small ones of each format and form; what is changed is bytes, numbers, pieces, and
the checksums of a PNG follow, so that decoders get to see the change. As in test_fuzz.py,
SERVABLE_FUZZ_SEED=NUMBER gives others. A file that ends the graph's process is kept in `corpus`,
all files of which are decoded each time.
"""

from __future__ import annotations

import hashlib
import io
import os
import random
import struct
import subprocess
import sys
import zlib
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image
from tests.conftest import SHIPPED

from servable_client import InvalidInput
from servable_client.types.images import prepare

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

COUNT = 3000
SEED = int(os.environ.get("SERVABLE_FUZZ_SEED") or 20)
CORPUS = Path(__file__).parent / "corpus"
PNG = b"\x89PNG\r\n\x1a\n"

# As TensorFlow Serving runs it: plain TensorFlow.
DECODE = """
import resource, struct, sys
import tensorflow as tf

resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
signature = tf.saved_model.load(sys.argv[1]).signatures["serving_bytes"]
while head := sys.stdin.buffer.read(4):
    data = sys.stdin.buffer.read(struct.unpack("<I", head)[0])
    try:
        signature(image_bytes=tf.constant([data]))
        word = "decoded"
    except tf.errors.InvalidArgumentError:
        word = "refused"
    except Exception as error:
        word = type(error).__name__
    print(word, flush=True)
"""


def file_of(pixels: np.ndarray, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def good_files() -> Iterator[bytes]:
    """Small files of each format, in their forms."""
    random_ = np.random.default_rng(7)
    grey = random_.integers(0, 256, [12, 10], np.uint8)
    colour, clear = (random_.integers(0, 256, [12, 10, n], np.uint8) for n in (3, 4))
    for pixels in (grey, colour, clear):
        yield file_of(pixels, "PNG")
        yield file_of(pixels, "WEBP", lossless=True)
        yield file_of(pixels, "WEBP", quality=70)
    palette = io.BytesIO()
    Image.fromarray(colour).quantize(16).save(palette, "PNG", transparency=3)
    yield palette.getvalue()
    deep = io.BytesIO()
    Image.fromarray(grey.astype(np.uint16) * 257).save(deep, "PNG")
    yield deep.getvalue()
    for pixels in (grey, colour):
        yield file_of(pixels, "BMP")
        yield file_of(pixels, "GIF")
        for progressive in (False, True):
            yield file_of(pixels, "JPEG", progressive=progressive)
    rotated = Image.Exif()
    rotated[0x0112] = 6
    yield file_of(colour, "JPEG", exif=rotated)
    frames = [Image.fromarray(255 - colour), Image.fromarray(colour[::-1])]
    for kind in ("GIF", "WEBP"):
        yield file_of(colour, kind, save_all=True, append_images=frames)


def with_checksums(data: bytes) -> bytes:
    """A PNG whose chunks have the checksums of what they hold now."""
    out, at = [data[:8]], 8
    while at + 12 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        end = at + 8 + size
        if end + 4 > len(data):
            break
        out += [data[at:end], struct.pack(">I", zlib.crc32(data[at + 4 : end]))]
        at = end + 4
    return b"".join([*out, data[at:]])


NUMBERS = (0, 1, 2, 127, 128, 255, 256, 32767, 65535, 1 << 20, (1 << 31) - 1, (1 << 32) - 1)


def changed(chance: random.Random, files: Sequence[bytes]) -> bytes:
    """One of the files with some of its bytes, numbers and pieces changed."""
    data = bytearray(chance.choice(files))
    for _ in range(chance.choice((1, 1, 2, 4, 8))):
        if not data:
            break
        # What decides how a decoder goes on lies mostly in the first bytes.
        place = chance.randrange(min(len(data), chance.choice((40, len(data)))))
        piece = slice(place, place + chance.choice((1, 4, 16, 64)))
        kind = chance.randrange(8)
        if kind == 0:
            data[place] ^= 1 << chance.randrange(8)
        elif kind == 1:
            data[place] = chance.choice((0, 1, 127, 128, 254, 255))
        elif kind in (2, 3):
            form = chance.choice(("<I", ">I", "<H", ">H"))
            mask = 0xFFFF if form[1] == "H" else 0xFFFFFFFF
            number = struct.pack(form, chance.choice(NUMBERS) & mask)
            data[place : place + len(number)] = number
        elif kind == 4:
            del data[piece]
        elif kind == 5:
            data[place:place] = data[piece] * chance.choice((1, 2, 50))
        elif kind == 6:
            other = chance.choice(files)
            data[place:] = other[min(place, len(other)) :]
        else:
            del data[place + 1 :]
    whole = bytes(data)
    return with_checksums(whole) if whole.startswith(PNG) and chance.random() < 0.8 else whole


@pytest.fixture(scope="module")
def files() -> list[bytes]:
    """The corpus, good files, and changed ones."""
    chance, good = random.Random(SEED), list(good_files())
    kept = [path.read_bytes() for path in sorted(CORPUS.glob("*.bin"))]
    return [*kept, *good, *(changed(chance, good) for _ in range(COUNT))]


@pytest.mark.skipif(sys.platform != "linux", reason="the address space is limited on Linux alone")
def test_an_exported_graph_alone_outlives_each_file(files: list[bytes]) -> None:
    words: Counter[str] = Counter()
    with subprocess.Popen(
        [sys.executable, "-c", DECODE, str(SHIPPED)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        assert process.stdin
        assert process.stdout
        for data in files:
            process.stdin.write(struct.pack("<I", len(data)) + data)
            process.stdin.flush()
            word = process.stdout.readline().decode().strip()
            if word not in {"decoded", "refused"}:
                path = CORPUS / f"{hashlib.sha256(data).hexdigest()[:16]}.bin"
                path.write_bytes(data)
                process.kill()
                pytest.fail(f"{word or 'the process ended'}: {path} (seed {SEED})")
            words[word] += 1
        process.stdin.close()
        assert process.wait(60) == 0
    # Neither only good files nor only those of which no decoder reads more than the first bytes.
    assert min(words.values()) > COUNT / 20, words


def test_the_sdk_reads_or_refuses_each_file(files: list[bytes]) -> None:
    words: Counter[str] = Counter()
    for data in files:
        try:
            prepare(data)
            words["read"] += 1
        except InvalidInput:
            words["refused"] += 1
    assert min(words.values()) > COUNT / 20, words
