"""What an image file may cost in the graph, and that what costs more is refused in no time."""

from __future__ import annotations

import io
import os
import resource
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tests.conftest import SHIPPED

from servable_serving.core.errors import ModelError
from servable_serving.core.names import MAX_GIF_BLOCKS, MAX_GIF_BYTES, MAX_SIDE
from servable_serving.gates.trial.adversarial_requests import _animation, _made_images, _scanned
from servable_serving.model.image_limits import declared_cost, max_rows
from servable_serving.model.preprocessing import decode
from servable_serving.model.saved_model import SavedModel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

SCREEN = b"GIF89a\x08\0\x08\0\0\0\0"


@pytest.fixture(scope="module")
def cost() -> Callable[[bytes], list[int]]:
    function = tf.function(
        declared_cost, input_signature=[tf.TensorSpec([], tf.string)], autograph=False
    )
    return lambda data: [int(value) for value in function(tf.constant(data))]


@pytest.fixture(scope="module")
def refused() -> Callable[[bytes], str]:
    """The words with which a file is refused by `decode`; empty if it is decoded."""
    function = tf.function(
        lambda encoded: decode(encoded, size=(28, 28)),
        input_signature=[tf.TensorSpec([], tf.string)],
        autograph=False,
    )

    def words(data: bytes) -> str:
        try:
            function(tf.constant(data))
        except tf.errors.InvalidArgumentError as error:
            return str(error.message)
        return ""

    return words


@pytest.fixture(scope="module")
def shipped() -> Iterator[SavedModel]:
    model = SavedModel(SHIPPED)
    yield model
    model.close()


def as_file(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def gif(count: int, height: int = 40, width: int = 60) -> bytes:
    pixels = np.random.default_rng(count).integers(0, 256, [count, height, width, 3], np.uint8)
    frames = [Image.fromarray(one) for one in pixels]
    return as_file(frames[0], "GIF", save_all=True, append_images=frames[1:])


def walked(data: bytes) -> int:
    """The pixels of all frames of a GIF, block by block as its specification says."""

    def at(place: int) -> int:
        return data[place] if place < len(data) else 0

    def colours(packed: int) -> int:
        return 6 << (packed % 8) if packed >= 128 else 0

    place, pixels = 13 + colours(at(10)), 0
    while place < len(data):
        kind = data[place]
        if kind == 0x2C:
            sides = data[place + 5 : place + 9].ljust(4, b"\0")
            pixels += (sides[0] + 256 * sides[1]) * (sides[2] + 256 * sides[3])
            place += 11 + colours(at(place + 9))
        elif kind == 0x21:
            place += 2
        else:
            break
        while place < len(data):
            length = data[place]
            place += 1 + length
            if not length:
                break
    return pixels


def side_of(pixels: int) -> int:
    return int(np.ceil(np.sqrt(float(pixels))))


@pytest.mark.parametrize("count", [1, 2, 9])
def test_all_frames_of_a_gif_count(cost: Callable[[bytes], list[int]], count: int) -> None:
    data = gif(count)
    assert walked(data) == count * 40 * 60
    assert cost(data)[:2] == [max(side_of(walked(data)), 40), max(side_of(walked(data)), 60)]


def test_a_damaged_gif_is_walked_as_far_as_it_goes(cost: Callable[[bytes], list[int]]) -> None:
    random = np.random.default_rng(0)
    whole = gif(4)
    for _ in range(300):
        data = bytearray(whole[: random.integers(20, len(whole) + 1)])
        for place in random.integers(13, len(data), random.integers(0, 8)):
            data[place] = random.integers(0, 256)
        expected = side_of(walked(bytes(data)))
        height, width, _ = cost(bytes(data))
        assert (height, width) == (max(expected, 40), max(expected, 60)), bytes(data).hex()


def test_a_gif_of_many_blocks_is_refused_in_no_time(refused: Callable[[bytes], str]) -> None:
    refused(SCREEN)
    few = SCREEN + b"\x21\xfe\x01A\0" * (MAX_GIF_BLOCKS // 3) + b";"
    assert "blocks" not in refused(few)
    began = time.process_time()
    for many in (b"\x21\xfe" + b"\x01A" * (1 << 18) + b"\0;", b"\x21\xfe\0" * (1 << 17)):
        assert "a GIF of more than 32,768 blocks" in refused(SCREEN + many)
    # 80 microseconds for each, as a loop takes, would be half a minute.
    assert time.process_time() - began < 10
    large = SCREEN + b"\x21\xfe" + (b"\xff" + b"A" * 255) * (MAX_GIF_BYTES // 256 + 1) + b"\0;"
    assert "a GIF of more than 2 MiB" in refused(large)


def test_the_scans_of_a_jpeg_count(
    cost: Callable[[bytes], list[int]], refused: Callable[[bytes], str]
) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, [60, 80, 3], np.uint8))
    assert cost(as_file(image, "JPEG")) == [60, 80, 60 * 80]
    # Pillow writes ten.
    assert cost(as_file(image, "JPEG", progressive=True)) == [60, 80, 60 * 80 * 3]
    assert "a JPEG of too many scans" in refused(_scanned(2000))
    assert refused(_scanned(20)) == ""
    # Headers of scans that are none, in a comment before the real ones.
    comment = b"\xff\xda\0\x07" * 1001
    hidden = b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment
    data = _scanned(20)
    assert "a JPEG of too many scans" in refused(data[:2] + hidden + data[2:])
    large = Image.new("RGB", (MAX_SIDE, MAX_SIDE))
    assert refused(as_file(large, "JPEG", progressive=True)) == ""


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_an_animated_webp_is_refused_and_a_still_one_is_not(
    refused: Callable[[bytes], str], mode: str
) -> None:
    animated = bytearray(_animation(mode))
    for flags in (animated[20], animated[20] & ~0x10, animated[20] | 0x10):
        animated[20] = flags
        assert "an animated WebP; send its first frame" in refused(bytes(animated))
    still = Image.open(io.BytesIO(_animation(mode)))
    assert refused(as_file(still.copy(), "WEBP")) == ""
    assert refused(as_file(still.copy(), "WEBP", lossless=True, exif=b"Exif\0\0")) == ""


def test_short_files_are_refused(refused: Callable[[bytes], str]) -> None:
    for data in (b"", b"R", b"RIFF", b"GIF8", b"\xff\xd8\xff", b"RIFF0000WEBPVP8X", SCREEN):
        assert refused(data), data


def test_the_images_of_a_request_count_together(shipped: SavedModel) -> None:
    large = as_file(Image.new("L", (MAX_SIDE, MAX_SIDE)), "JPEG")
    assert len(answer(shipped, [large] * 2)) == 2
    with pytest.raises(ModelError, match="16 x 4096 x 4096 pixels in one request") as caught:
        answer(shipped, [large] * 17)
    assert caught.value.code == "INVALID_ARGUMENT"


def answer(model: SavedModel, files: list[bytes]) -> NDArray[np.float32]:
    inputs = {"image_bytes": np.array(files, object)}
    return model.run("serving_bytes", inputs, ["probabilities"])["probabilities"]


def test_the_rows_of_a_request_are_bounded(shipped: SavedModel) -> None:
    assert max_rows((28, 28)) == 2048
    assert max_rows((224, 224, 3)) == 445
    assert max_rows((8192, 8192, 3)) == 1
    with pytest.raises(ModelError, match="more than 2048 images") as caught:
        shipped.run("serving_default", {"image": np.zeros([2049, 28, 28], np.uint8)})
    assert caught.value.code == "INVALID_ARGUMENT"
    with pytest.raises(ModelError, match="more than 2048 images"):
        answer(shipped, [b""] * 2049)
    with pytest.raises(ModelError, match="more than 2048 images"):
        shipped.run("classify", {"inputs": np.array([b""] * 2049, object)})


# As TensorFlow Serving runs it: plain TensorFlow, in a process that may have 4 GiB.
_ADDRESS_SPACE = 4 << 30
ALONE = """
import sys
import numpy as np
import tensorflow as tf

signatures = tf.saved_model.load(sys.argv[1]).signatures
files = [open(path, "rb").read() for path in sys.argv[2:]]
for data in files:
    try:
        signatures["serving_bytes"](image_bytes=tf.constant([data]))
    except tf.errors.InvalidArgumentError:
        pass
answers = signatures["serving_default"](image=tf.zeros([2048, 28, 28], tf.uint8))
for shape in ([0, 28, 28], [1 << 18, 28, 28], [2, 2], [1, 28, 28, 1], [2049, 28, 28]):
    try:
        signatures["serving_default"](image=tf.zeros(shape, tf.uint8))
    except (tf.errors.InvalidArgumentError, ValueError, TypeError):
        pass
print(len(answers["label"]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the address space is limited on Linux alone")
@pytest.mark.parametrize("onednn", [0, 1])
def test_the_graph_alone_outlives_every_image_and_shape(onednn: int, tmp_path: Path) -> None:
    """With oneDNN, as on processors with AVX-512, and without."""
    paths = []
    for index, (_, data, _) in enumerate(_made_images()):
        path = tmp_path / str(index)
        path.write_bytes(data)
        paths.append(str(path))

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE, _ADDRESS_SPACE))

    done = subprocess.run(
        [sys.executable, "-c", ALONE, str(SHIPPED), *paths],
        capture_output=True, text=True, check=False, preexec_fn=limit,
        env={**os.environ, "TF_ENABLE_ONEDNN_OPTS": str(onednn)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == "2048\n"
