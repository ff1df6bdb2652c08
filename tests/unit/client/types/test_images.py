"""Images of every mode, size and form, made ready to send."""

from __future__ import annotations

import io
import os
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import ExifTags, Image, PngImagePlugin

from servable_client import InvalidInput
from servable_client.types import images
from servable_client.types.answers import Signature, TensorSpec
from servable_client.types.images import MAX_READ, checked, fit, prepare
from servable_client.types.operations import Description

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

GRADIENT = np.arange(784, dtype=np.uint16).reshape(28, 28).astype(np.uint8)


def test_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "image.png")
    with pytest.raises(InvalidInput, match="not a regular file"):
        prepare(tmp_path / "image.png")


def opened(data: object) -> Image.Image:
    assert isinstance(data, bytes)
    return Image.open(io.BytesIO(data))


def file_of(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "mode", ["1", "L", "P", "PA", "RGB", "RGBA", "LA", "La", "RGBa", "CMYK", "YCbCr", "LAB", "HSV"]
)
def test_every_mode_becomes_a_png_of_its_size(mode: str) -> None:
    image = Image.fromarray(GRADIENT)
    through = {"PA": ("P", "PA"), "La": ("LA", "La"), "RGBa": ("RGBA", "RGBa"), "LAB": ()}
    for step in through.get(mode, (mode,)):
        image = image.convert(step)
    if mode == "LAB":
        neutral = Image.new("L", image.size, 128)
        image = Image.merge("LAB", [image, neutral, neutral])
    assert image.mode == mode
    found = opened(prepare(image))
    assert (found.format, found.size) == ("PNG", (28, 28))
    assert found.mode in ("1", "L", "LA", "RGB", "RGBA")


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_deep_grey_becomes_eight_bits(mode: str) -> None:
    if mode == "F":
        image = Image.fromarray(GRADIENT.astype(np.float32))
    else:
        deep = GRADIENT.astype(np.uint16) * 257
        image = Image.fromarray(deep if mode == "I;16" else deep.astype(np.int32))
    assert image.mode == mode
    np.testing.assert_array_equal(np.asarray(opened(prepare(image))), GRADIENT)


def test_a_png_of_sixteen_bits_is_sent_as_it_is() -> None:
    data = file_of(Image.fromarray(GRADIENT.astype(np.uint16) * 257))
    assert prepare(data) == data


@pytest.mark.parametrize("pixels", [[[-1.0]], [[0.5]], [[300.5]], [[float("nan")]]], ids=str)
def test_floats_of_another_scale_are_refused(pixels: list[list[float]]) -> None:
    with pytest.raises(InvalidInput) as caught:
        prepare(Image.fromarray(np.array(pixels, np.float32)))
    assert caught.value.hint


@pytest.mark.parametrize("kind", ["GIF", "WEBP"])
def test_of_an_animation_the_first_frame_is_sent(kind: str) -> None:
    frames = [Image.new("RGB", (40, 30), colour) for colour in ("red", "green", "blue")]
    buffer = io.BytesIO()
    options = {"lossless": True} if kind == "WEBP" else {}
    frames[0].save(buffer, kind, save_all=True, append_images=frames[1:], **options)
    sent = opened(prepare(buffer.getvalue()))
    assert sent.format == "PNG"
    assert sent.convert("RGB").getpixel((5, 5)) == (255, 0, 0)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP"])
def test_a_file_that_servers_decode_is_sent_as_it_is(kind: str) -> None:
    data = file_of(Image.fromarray(GRADIENT), kind)
    assert prepare(data) == data


@pytest.mark.parametrize("kind", ["BMP", "TIFF", "PPM"])
def test_a_file_of_another_format_is_sent_as_png(kind: str) -> None:
    found = opened(prepare(file_of(Image.fromarray(GRADIENT), kind)))
    assert found.format == "PNG"
    np.testing.assert_array_equal(np.asarray(found.convert("L")), GRADIENT)


def test_a_wide_image_is_shrunk_and_left_alone_itself() -> None:
    wide = Image.new("L", (9000, 300), 200)
    assert opened(prepare(wide)).size == (4096, 137)
    assert wide.size == (9000, 300)


def test_a_wide_file_is_shrunk() -> None:
    assert opened(prepare(file_of(Image.new("L", (9000, 300), 200), "JPEG"))).size == (4096, 137)


def test_a_file_of_many_bytes_is_shrunk(monkeypatch: pytest.MonkeyPatch) -> None:
    # Smaller limits, since noise of 10 MiB takes seconds to encode.
    monkeypatch.setattr(images, "MAX_BYTES", 220_000)
    monkeypatch.setattr(images, "_SHRINK_TO", (256, 128, 64))
    noise = np.random.default_rng(0).integers(0, 256, [280, 280, 3], np.uint8)
    found = prepare(file_of(Image.fromarray(noise), compress_level=0))
    assert opened(found).size == (256, 256)
    assert len(found) <= 220_000


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_an_image_that_is_to_be_turned_is_sent_upright(kind: str) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    stored = Image.fromarray(np.rot90(GRADIENT).copy())
    options = {"lossless": True} if kind == "WEBP" else {}
    found = opened(prepare(file_of(stored, kind, exif=exif.tobytes(), **options)))
    np.testing.assert_array_equal(np.asarray(found.convert("L")), GRADIENT)


def test_a_jpeg_that_is_to_be_turned_is_left_to_the_model() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    data = file_of(Image.fromarray(GRADIENT), "JPEG", exif=exif.tobytes())
    assert prepare(data) == data


def test_damaged_exif_data_are_ignored() -> None:
    data = file_of(Image.fromarray(GRADIENT), exif=b"Exif\0\0nonsense")
    assert prepare(data) == data


@pytest.mark.parametrize("form", [bytes, bytearray, memoryview, io.BytesIO])
def test_bytes_of_every_type_are_taken(form: Any) -> None:
    data = file_of(Image.fromarray(GRADIENT))
    assert prepare(form(data)) == data


def test_a_path_is_read(tmp_path: Path) -> None:
    data = file_of(Image.fromarray(GRADIENT))
    (tmp_path / "boot.png").write_bytes(data)
    assert prepare(tmp_path / "boot.png") == data
    assert prepare(str(tmp_path / "boot.png")) == data


def test_an_open_file_is_read(tmp_path: Path) -> None:
    data = file_of(Image.fromarray(GRADIENT))
    (tmp_path / "boot.png").write_bytes(data)
    with (tmp_path / "boot.png").open("rb") as file:
        assert prepare(file) == data


def test_an_error_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("milk, eggs")
    with pytest.raises(InvalidInput) as caught:
        prepare(tmp_path / "notes.txt")
    assert "notes.txt" in caught.value.message
    assert "notes.txt" not in caught.value.reason
    assert caught.value.hint


def test_a_missing_file_is_an_error() -> None:
    with pytest.raises(InvalidInput) as caught:
        prepare("/nonexistent/boot.png")
    assert "/nonexistent/boot.png" in caught.value.message


def test_a_path_with_a_zero_byte_is_an_error() -> None:
    with pytest.raises(InvalidInput):
        prepare("boot\0.png")


@pytest.mark.parametrize(
    "picture",
    [7, None, ["boot.png"], io.StringIO("text")],
    ids=["int", "None", "list", "text file"],
)
def test_what_is_not_an_image_is_refused(picture: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        prepare(picture)
    assert caught.value.hint


def test_a_file_that_fails_to_read_is_an_error() -> None:
    class Broken(io.BytesIO):
        name = "broken"

        def read(self, *_: object) -> bytes:
            raise OSError("gone")

    with pytest.raises(InvalidInput) as caught:
        prepare(Broken())
    assert "broken" in caught.value.message


@pytest.mark.parametrize("keep", [0.3, 0.7, 0.95])
@pytest.mark.parametrize(
    ("kind", "options"),
    [("PNG", {}), ("JPEG", {}), ("JPEG", {"progressive": True}), ("WEBP", {})],
)
def test_half_a_file_is_damaged(kind: str, options: dict[str, Any], keep: float) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, [64, 64, 3], np.uint8)
    data = file_of(Image.fromarray(pixels), kind, **options)
    assert prepare(data) == data
    with pytest.raises(InvalidInput):
        prepare(data[: int(len(data) * keep)])


@pytest.mark.parametrize("place", [0.3, 0.6, 0.97])
def test_a_png_with_a_wrong_byte_is_damaged(place: float) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, [64, 64, 3], np.uint8)
    data = bytearray(file_of(Image.fromarray(pixels), "PNG"))
    data[int(len(data) * place)] ^= 0x55
    with pytest.raises(InvalidInput, match="is damaged"):
        prepare(bytes(data))


def test_the_end_of_a_thumbnail_is_not_that_of_its_jpeg() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, [64, 64, 3], np.uint8)
    data = file_of(Image.fromarray(pixels), "JPEG", comment=b"\xff\xd8\xff\xda\xff\xd9")
    assert prepare(data) == data
    with pytest.raises(InvalidInput, match="is damaged"):
        prepare(data[:-2])


def test_a_png_with_notes_is_turned_and_one_with_other_notes_is_not() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, [20, 30], np.uint8)
    image, exif = Image.fromarray(pixels), Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    turned = prepare(file_of(image, "PNG", exif=exif))
    assert isinstance(turned, bytes)
    with Image.open(io.BytesIO(turned)) as found:
        assert found.size == (20, 30)
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "from a camera")
    noted = file_of(image, "PNG", pnginfo=info)
    assert prepare(noted) == noted


def test_an_empty_image_is_refused() -> None:
    with pytest.raises(InvalidInput):
        prepare(Image.new("L", (0, 3)))


def test_a_file_of_too_many_bytes_is_refused() -> None:
    with pytest.raises(InvalidInput) as caught:
        prepare(bytes(MAX_READ + 1))
    assert caught.value.hint


def test_a_file_of_too_many_pixels_is_refused() -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = zlib.crc32(kind + data).to_bytes(4, "big")
        return len(data).to_bytes(4, "big") + kind + data + crc

    size = (60_000).to_bytes(4, "big")
    data = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", size + size + b"\x08\x00\x00\x00\x00")
        + chunk(b"IDAT", zlib.compress(b"0"))
        + chunk(b"IEND", b"")
    )
    with pytest.raises(InvalidInput):
        prepare(data)


# -- arrays -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shape", [(2, 2), (2, 2, 1), (1, 2, 2), (2, 2, 3), (2, 2, 4), (1, 2, 2, 3)]
)
def test_an_array_of_pixels_is_taken(shape: tuple[int, ...]) -> None:
    array = np.zeros(shape, np.uint8)
    assert prepare(array) is array


@pytest.mark.parametrize("shape", [(2,), (), (2, 2, 2), (3, 2, 2, 3), (2, 2, 5)])
def test_an_array_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInput):
        checked(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("dtype", ["float32", "int64", "bool", "int8", "uint16"])
def test_an_array_of_another_dtype_is_refused(dtype: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        checked(np.zeros([2, 2], dtype))
    assert caught.value.hint


def description(**signatures: tuple[dict[str, str], tuple[int, ...] | None]) -> Description:
    return Description(
        version=1,
        signatures={
            name: Signature(
                inputs={key: TensorSpec(dtype=dtype, shape=shape) for key, dtype in inputs.items()},
                outputs={},
                method="m",
            )
            for name, (inputs, shape) in signatures.items()
        },
    )


def pixels(*shape: int) -> NDArray[np.uint8]:
    return np.zeros(shape, np.uint8)


@pytest.mark.parametrize(
    ("given", "wanted", "sent"),
    [
        (pixels(2, 2), (-1, 2, 2), (2, 2)),
        (pixels(2, 2, 1), (-1, 2, 2), (2, 2)),
        (pixels(1, 2, 2), (-1, 2, 2), (2, 2)),
        (pixels(2, 2), (-1, 2, 2, 1), (2, 2, 1)),
        (pixels(1, 2, 2), (-1, 2, 2, 1), (2, 2, 1)),
        (pixels(2, 2, 3), (-1, 2, 2, 3), (2, 2, 3)),
        (pixels(1, 2, 2, 3), (-1, -1, -1, 3), (2, 2, 3)),
        (pixels(4, 9), (-1, -1, -1), (4, 9)),
        (pixels(4, 9), None, (4, 9)),
    ],
)
def test_an_array_takes_the_models_shape(
    given: NDArray[np.uint8], wanted: tuple[int, ...] | None, sent: tuple[int, ...]
) -> None:
    found = description(serving_default=({"image": "DT_UINT8"}, wanted))
    signature, name, value = fit(given, found, "m")
    assert (signature, name, value.shape) == ("serving_default", "image", sent)


def test_a_file_goes_to_the_signature_for_bytes() -> None:
    found = description(serving_bytes=({"data": "DT_STRING"}, (-1,)))
    assert fit(b"png", found, "m") == ("serving_bytes", "data", b"png")


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (pixels(3, 3), description(serving_default=({"x": "DT_UINT8"}, (-1, 2, 2)))),
        (pixels(2, 2), description(serving_default=({"x": "DT_FLOAT"}, (-1, 2, 2)))),
        (pixels(2, 2), description(serving_default=({"x": "DT_UINT8", "y": "DT_UINT8"}, None))),
        (pixels(2, 2), description(other=({"x": "DT_UINT8"}, None))),
        (b"png", description(serving_default=({"x": "DT_UINT8"}, None))),
        (b"png", description(serving_bytes=({"x": "DT_UINT8"}, None))),
    ],
    ids=["size", "dtype", "two inputs", "no signature", "no bytes", "bytes dtype"],
)
def test_an_image_that_the_model_does_not_take_is_refused(given: Any, found: Description) -> None:
    with pytest.raises(InvalidInput) as caught:
        fit(given, found, "shoes")
    assert caught.value.model == "shoes"
    assert caught.value.hint
