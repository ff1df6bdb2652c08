"""Pictures of every mode, size and form."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import ExifTags, Image

import servable_client as sdk
from servable_client.types.answers import Classification
from servable_client.types.images import MAX_BYTES, prepare

if TYPE_CHECKING:
    from pathlib import Path


def opened(data: object) -> Image.Image:
    assert isinstance(data, bytes)
    return Image.open(io.BytesIO(data))


@pytest.mark.parametrize(
    "mode", ["1", "L", "P", "PA", "RGB", "RGBA", "LA", "La", "RGBa", "CMYK", "YCbCr", "LAB", "HSV"]
)
def test_every_mode_is_drawn(client: Any, boot: np.ndarray, mode: str) -> None:
    image = Image.fromarray(boot).resize((56, 56))
    through = {"PA": ("P", "PA"), "La": ("LA", "La"), "RGBa": ("RGBA", "RGBa"), "LAB": ()}
    for step in through.get(mode, (mode,)):
        image = image.convert(step)
    if mode == "LAB":
        neutral = Image.new("L", image.size, 128)
        image = Image.merge("LAB", [image, neutral, neutral])
    assert image.mode == mode
    answer = client.classify(image)
    # One bit a pixel leaves dots, which a boot can hardly be told from.
    assert answer.label == "Ankle boot" or mode == "1"


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_deep_grey_becomes_eight_bits(boot: np.ndarray, mode: str) -> None:
    if mode == "F":
        image = Image.fromarray(boot.astype(np.float32))
    else:
        deep = boot.astype(np.uint16) * 257
        image = Image.fromarray(deep if mode == "I;16" else deep.astype(np.int32))
    assert image.mode == mode
    np.testing.assert_array_equal(np.asarray(opened(prepare(image))), boot)
    if mode == "I;16":
        file = io.BytesIO()
        image.save(file, "PNG")
        assert prepare(file.getvalue()) == file.getvalue()  # TensorFlow reads it itself


@pytest.mark.parametrize("pixels", [[[-1.0]], [[0.5]], [[300.5]], [[float("nan")]]])
def test_floats_that_are_no_pixels(pixels: list[list[float]]) -> None:
    with pytest.raises(sdk.InvalidInput, match="mode F") as caught:
        prepare(Image.fromarray(np.array(pixels, np.float32)))
    assert caught.value.hint


def test_large_pictures_are_shrunk(tmp_path: Path) -> None:
    wide = Image.new("L", (9000, 300), 200)
    assert opened(prepare(wide)).size == (4096, 137)
    wide.save(tmp_path / "wide.jpg")
    assert opened(prepare(tmp_path / "wide.jpg")).size == (4096, 137)
    assert wide.size == (9000, 300)
    noise = np.random.default_rng(0).integers(0, 256, [2100, 2100, 3], np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG")
    assert len(file.getvalue()) > MAX_BYTES
    assert len(prepare(file.getvalue())) <= MAX_BYTES


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG"])
def test_what_the_model_would_not_turn_is_sent_upright(
    client: Any, boot: np.ndarray, kind: str
) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    stored = Image.fromarray(np.rot90(boot).copy()).resize((56, 56), Image.Resampling.NEAREST)
    file = io.BytesIO()
    options = {"lossless": True} if kind == "WEBP" else {}
    stored.save(file, kind, exif=exif.tobytes(), **options)
    if kind == "JPEG":
        assert prepare(file.getvalue()) == file.getvalue()  # a new model turns it itself
        answer = client.classify(Image.open(file))
    else:
        sent = opened(prepare(file.getvalue()))
        np.testing.assert_array_equal(np.asarray(sent.convert("L"))[::2, ::2], boot)
        answer = client.classify(file.getvalue())
    assert answer.label == "Ankle boot"


def test_damaged_exif_data_harm_nobody(boot: np.ndarray) -> None:
    file = io.BytesIO()
    Image.fromarray(boot).save(file, "PNG", exif=b"Exif\0\0nonsense")
    assert prepare(file.getvalue()) == file.getvalue()


def test_bytes_by_other_names(boot: np.ndarray) -> None:
    file = io.BytesIO()
    Image.fromarray(boot).save(file, "PNG")
    data = file.getvalue()
    for form in (bytearray(data), memoryview(data), io.BytesIO(data)):
        assert prepare(form) == data  # type: ignore[arg-type]
    with pytest.raises(sdk.InvalidInput, match="open as text"):
        prepare(io.StringIO("text"))  # type: ignore[arg-type]


def test_an_answer_draws_itself_and_is_not_taken_for_html() -> None:
    answer = Classification(
        label="<script>",
        class_id=1,
        probability=0.75,
        probabilities=np.array([0.25, 0.75], np.float32),
        version=3,
        elapsed=0.0021,
        labels=("a & b", "<script>"),
    )
    drawn = answer._repr_html_()
    assert "<script>" not in drawn
    assert "&lt;script&gt;" in drawn
    assert "a &amp; b" in drawn
    assert "version 3" in drawn
    assert "2.1 ms" in drawn
    assert str(answer) == "<script> (75.0%)"
    assert answer.top(1) == [("<script>", 0.75, 1)]
    assert answer.top(0) == []
    assert len(answer.top(9)) == 2
