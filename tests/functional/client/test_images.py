"""Images of every mode, classified by a server."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image

from servable_client.types.images import prepare


def opened(data: object) -> Image.Image:
    assert isinstance(data, bytes)
    return Image.open(io.BytesIO(data))


@pytest.mark.parametrize(
    "mode", ["1", "L", "P", "PA", "RGB", "RGBA", "LA", "La", "RGBa", "CMYK", "YCbCr", "LAB", "HSV"]
)
def test_every_mode_is_classified(client: Any, boot: np.ndarray, mode: str) -> None:
    image = Image.fromarray(boot).resize((56, 56))
    through = {"PA": ("P", "PA"), "La": ("LA", "La"), "RGBa": ("RGBA", "RGBa"), "LAB": ()}
    for step in through.get(mode, (mode,)):
        image = image.convert(step)
    if mode == "LAB":
        neutral = Image.new("L", image.size, 128)
        image = Image.merge("LAB", [image, neutral, neutral])
    assert image.mode == mode
    answer = client.classify(image)
    # One bit per pixel leaves too little of a boot to recognise.
    assert answer.label == "Ankle boot" or mode == "1"


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG"])
def test_an_image_with_an_orientation_is_classified_upright(
    client: Any, boot: np.ndarray, kind: str
) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    stored = Image.fromarray(np.rot90(boot).copy()).resize((56, 56), Image.Resampling.NEAREST)
    file = io.BytesIO()
    options = {"lossless": True} if kind == "WEBP" else {}
    stored.save(file, kind, exif=exif.tobytes(), **options)
    if kind == "JPEG":
        assert prepare(file.getvalue()) == file.getvalue()  # the model rotates it
        answer = client.classify(Image.open(file))
    else:
        sent = opened(prepare(file.getvalue()))
        np.testing.assert_array_equal(np.asarray(sent.convert("L"))[::2, ::2], boot)
        answer = client.classify(file.getvalue())
    assert answer.label == "Ankle boot"
