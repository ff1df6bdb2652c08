"""What the graph does to a picture before the network sees it, against doing it by hand."""

from __future__ import annotations

import io
import struct
import zlib
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pytest
import tensorflow as tf
from PIL import ExifTags, Image, ImageOps

from servable_serving.model.preprocessing import decode

if TYPE_CHECKING:
    from collections.abc import Callable

    from servable_trainer.data.dataset import Dataset

    Shrink: TypeAlias = Callable[[bytes], np.ndarray]


@pytest.fixture(scope="module")
def shrink() -> Shrink:
    """`decode` to 28 x 28, as it runs in a SavedModel: traced."""
    function = tf.function(
        lambda encoded: decode(encoded, size=(28, 28)),
        input_signature=[tf.TensorSpec([], tf.string)],
        autograph=False,
    )
    return lambda data: function(tf.constant(data)).numpy()


def as_file(picture: Image.Image | np.ndarray, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_a_grey_picture_of_the_right_size_comes_out_as_it_is(
    shrink: Shrink, dataset: Dataset
) -> None:
    for picture in dataset.test.images[:50]:
        np.testing.assert_array_equal(shrink(as_file(picture)), picture)


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "WEBP"])
def test_every_lossless_format_gives_the_same_pixels(
    shrink: Shrink, dataset: Dataset, kind: str
) -> None:
    picture = dataset.test.images[0]
    options = {"lossless": True} if kind == "WEBP" else {}
    np.testing.assert_allclose(shrink(as_file(picture, kind, **options)), picture, atol=1)


def test_jpeg_gives_nearly_the_same_pixels(shrink: Shrink, dataset: Dataset) -> None:
    picture = dataset.test.images[0]
    seen = shrink(as_file(picture, "JPEG", quality=95)).astype(int)
    assert np.abs(seen - picture).mean() < 3


@pytest.mark.parametrize(
    ("mode", "options"),
    [("L", {}), ("RGB", {}), ("RGB", {"subsampling": 0}), ("RGB", {"progressive": True}),
     ("RGB", {"keep_rgb": True}), ("CMYK", {})],
)  # fmt: skip
def test_every_colour_space_of_jpeg(shrink: Shrink, mode: str, options: dict[str, object]) -> None:
    """Grey is what Pillow calls so, whichever colours the file stores."""
    smooth = Image.fromarray(coloured(7, 5)).resize((100, 140), Image.Resampling.BICUBIC)
    file = as_file(smooth.convert(mode), "JPEG", quality=90, **options)
    with Image.open(io.BytesIO(file)) as again:
        # Pillow reads CMYK from here on as an Adobe program wrote it: inverted.
        expected = again.convert("RGB").convert("L")
    found, lossless = shrink(file).astype(int), shrink(as_file(expected)).astype(int)
    assert np.abs(found - lossless).mean() < 1.5


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P", "1"])
def test_every_mode_of_png(shrink: Shrink, dataset: Dataset, mode: str) -> None:
    picture = dataset.test.images[0]
    dither = Image.Dither.NONE if mode == "1" else None
    image = Image.fromarray(picture).convert(mode, dither=dither)
    expected = np.asarray(image.convert("L")) if mode in "1P" else picture
    np.testing.assert_allclose(shrink(as_file(image)), expected, atol=1)


def test_a_large_picture_is_shrunk_with_antialiasing(shrink: Shrink, dataset: Dataset) -> None:
    picture = dataset.test.images[0]
    large = Image.fromarray(picture).resize((448, 448), Image.Resampling.NEAREST)
    by_hand = np.asarray(large.resize((28, 28), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(shrink(as_file(large)) - by_hand).mean() < 1


def test_a_light_border_is_inverted(shrink: Shrink, dataset: Dataset) -> None:
    picture = dataset.test.images[0]
    np.testing.assert_array_equal(shrink(as_file(255 - picture)), picture)


def test_transparency_is_white_and_so_inverted(shrink: Shrink) -> None:
    image = Image.new("RGBA", (28, 28), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (10, 10, 18, 18))
    seen = shrink(as_file(image))
    assert seen[0, 0] == 0
    assert seen[14, 14] == 255


def test_a_wide_picture_is_centred_on_its_own_ground(shrink: Shrink) -> None:
    wide = np.full([20, 60], 40, np.uint8)
    wide[5:15, 20:40] = 250
    seen = shrink(as_file(wide))
    assert seen.shape == (28, 28)
    assert abs(int(seen[0, 0]) - 40) <= 1  # above: padding in the ground's grey
    assert seen[14, 14] > 200
    assert abs(int(seen[:14].sum()) - int(seen[14:].sum())) < seen.sum() * 0.05


def png_header(width: int, height: int) -> bytes:
    """A PNG that declares a size and holds nothing."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))


def with_size(kind: str, width: int, height: int) -> bytes:
    """A real file of that format whose header declares another size."""
    small = np.zeros([8, 8], np.uint8)
    if kind == "PNG":
        return png_header(width, height)
    if kind == "GIF":
        data = bytearray(as_file(small, "GIF"))
        data[6:10] = struct.pack("<HH", width, height)
    elif kind == "BMP":
        data = bytearray(as_file(small, "BMP"))
        data[18:26] = struct.pack("<ii", width, -height)
    elif kind == "JPEG":
        data = bytearray(as_file(small, "JPEG"))
        start = data.index(b"\xff\xc0")
        data[start + 5 : start + 9] = struct.pack(">HH", height, width)
    elif kind == "WEBP lossy":
        data = bytearray(as_file(Image.fromarray(small), "WEBP"))
        data[26:30] = struct.pack("<HH", width, height)
    elif kind == "WEBP lossless":
        data = bytearray(as_file(Image.fromarray(small), "WEBP", lossless=True))
        data[21:25] = struct.pack("<I", (width - 1) | (height - 1) << 14)
    else:
        data = bytearray(as_file(Image.fromarray(small).convert("RGBA"), "WEBP", exif=b"Exif\0\0x"))
        assert data[12:16] == b"VP8X"
        data[24:30] = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    return bytes(data)


@pytest.mark.parametrize(
    "kind", ["PNG", "GIF", "BMP", "JPEG", "WEBP lossy", "WEBP lossless", "WEBP extended"]
)
@pytest.mark.parametrize(("width", "height"), [(4097, 8), (8, 4097), (12000, 12000)])
def test_a_picture_that_declares_too_much_is_refused_before_it_is_decoded(
    shrink: Shrink, kind: str, width: int, height: int
) -> None:
    # Its data would not decode either: only the refusal speaks of the size.
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"more than 4096 x 4096"):
        shrink(with_size(kind, width, height))


def test_a_gif_is_as_large_as_its_frames_and_not_as_its_screen(shrink: Shrink) -> None:
    data = bytearray(as_file(np.zeros([100, 100], np.uint8), "GIF"))
    # Header, screen and its colour table; then extensions, if any, and the frame.
    frame = data.index(b"\x2c" + struct.pack("<HHHH", 0, 0, 100, 100))
    data[frame + 5 : frame + 9] = struct.pack("<HH", 7000, 7000)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"more than 4096 x 4096"):
        shrink(bytes(data))


def test_an_animation_is_as_large_as_all_its_frames(shrink: Shrink) -> None:
    frames = [Image.fromarray(np.full([2000, 2000], 10 * i, np.uint8)) for i in range(6)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:4])
    assert shrink(buffer.getvalue()).shape == (28, 28)  # 16 million pixels
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"more than 4096 x 4096"):
        shrink(buffer.getvalue())  # 24 million


def test_the_largest_picture_is_taken(shrink: Shrink) -> None:
    assert shrink(as_file(np.zeros([4096, 16], np.uint8))).shape == (28, 28)


def test_a_file_of_too_many_bytes_is_refused(shrink: Shrink) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match="more than 10 MiB"):
        shrink(as_file(np.zeros([8, 8], np.uint8)) + b"\0" * (10 << 20))


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xd8\xff", b"GIF8", b"BM", b"text", b"RIFF1234WEBPVP8X"]
)
def test_what_is_no_picture_is_an_invalid_argument(shrink: Shrink, data: bytes) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError):
        shrink(data)


def turned(picture: np.ndarray, orientation: int, order: str = "II") -> bytes:
    """A JPEG file that says how it is to be turned, as a camera writes it."""
    exif = Image.Exif()
    exif.endian = "<" if order == "II" else ">"
    exif[ExifTags.Base.Make] = "Camera"
    exif[ExifTags.Base.Orientation] = orientation
    data = as_file(picture, "JPEG", quality=95, exif=exif.tobytes())
    assert data[data.index(b"Exif\0\0") + 6 :][:2] == order.encode()
    return data


@pytest.mark.parametrize("order", ["II", "MM"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_is_turned_as_its_camera_says(
    shrink: Shrink, dataset: Dataset, orientation: int, order: str
) -> None:
    picture = dataset.test.images[0]
    data = turned(picture, orientation, order)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert np.abs(shrink(data).astype(int) - np.asarray(upright)).mean() < 2
    if orientation != 1:
        assert np.abs(shrink(data).astype(int) - picture).mean() > 10


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_there_is_not_turns_nothing(
    shrink: Shrink, dataset: Dataset, orientation: int
) -> None:
    picture = dataset.test.images[0]
    np.testing.assert_array_equal(shrink(turned(picture, orientation)), shrink(turned(picture, 1)))


def test_damaged_exif_harms_nobody(shrink: Shrink, dataset: Dataset) -> None:
    data = turned(dataset.test.images[0], 6)
    directory = data.index(b"Exif\0\0") + 6 + 4  # where its place is told, then its length
    nowhere, endless = bytearray(data), bytearray(data)
    nowhere[directory : directory + 4] = b"\xff\xff\xff\xff"
    endless[directory + 4 : directory + 6] = b"\xff\xff"
    np.testing.assert_array_equal(shrink(bytes(nowhere)), shrink(turned(dataset.test.images[0], 1)))
    np.testing.assert_array_equal(shrink(bytes(endless)), shrink(data))


@pytest.fixture(scope="module")
def shrink_colour() -> Shrink:
    """`decode` in colour to 24 rows and 32 columns."""
    function = tf.function(
        lambda encoded: decode(encoded, size=(24, 32), channels=3),
        input_signature=[tf.TensorSpec([], tf.string)],
        autograph=False,
    )
    return lambda data: function(tf.constant(data)).numpy()


def coloured(height: int, width: int) -> np.ndarray:
    """A blot of red on a light ground of blue."""
    picture = np.full([height, width, 3], (180, 200, 250), np.uint8)
    picture[height // 4 : height * 3 // 4, width // 4 : width * 3 // 4] = (200, 30, 20)
    return picture


@pytest.mark.parametrize("kind", ["PNG", "BMP", "WEBP"])
def test_a_picture_in_colour_comes_out_as_it_is(shrink_colour: Shrink, kind: str) -> None:
    # Its ground is light: in colour nothing is inverted.
    picture = coloured(24, 32)
    options = {"lossless": True} if kind == "WEBP" else {}
    np.testing.assert_array_equal(shrink_colour(as_file(picture, kind, **options)), picture)


@pytest.mark.parametrize(("height", "width"), [(240, 100), (50, 320)])
def test_colour_is_centred_on_the_mean_of_its_border(
    shrink_colour: Shrink, height: int, width: int
) -> None:
    seen = shrink_colour(as_file(coloured(height, width)))
    assert seen.shape == (24, 32, 3)
    for corner in (seen[0, 0], seen[-1, -1], seen[0, -1]):
        np.testing.assert_allclose(corner, (180, 200, 250), atol=1)
    np.testing.assert_allclose(seen[12, 16], (200, 30, 20), atol=12)  # a blot of 2.5 rows


def test_colour_is_shrunk_with_antialiasing(shrink_colour: Shrink) -> None:
    noise = np.random.default_rng(0).integers(0, 256, [96, 128, 3], np.uint8)
    by_hand = np.asarray(Image.fromarray(noise).resize((32, 24), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(shrink_colour(as_file(noise)), by_hand, atol=1)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1"])
def test_every_mode_becomes_colour(shrink_colour: Shrink, mode: str) -> None:
    image = Image.fromarray(coloured(24, 32)).convert("L" if mode in ("LA", "1") else "RGB")
    image = image.convert(mode)
    seen = shrink_colour(as_file(image))
    np.testing.assert_allclose(seen, np.asarray(image.convert("RGB")), atol=1)


def test_what_is_transparent_is_white_in_colour(shrink_colour: Shrink) -> None:
    image = Image.new("RGBA", (32, 24), (255, 0, 0, 0))
    image.paste((0, 0, 255, 128), (10, 10, 18, 18))
    seen = shrink_colour(as_file(image))
    assert seen[0, 0].tolist() == [255, 255, 255]
    np.testing.assert_allclose(seen[14, 14], (127, 127, 255), atol=1)
