"""The expected values that the web page's own preprocessing is tested against are the graph's.

`tests/unit/web/see.test.js` compares `see.js` with the file that is checked here. After a change of
the preprocessing,

    SERVABLE_WRITE_FIXTURES=1 pytest tests/functional/serving/test_web_fixture.py

writes it again.
"""

from __future__ import annotations

import base64
import io
import json
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image
from tests.conftest import ROOT

from servable_serving.model.preprocessing import decode

if TYPE_CHECKING:
    from numpy.typing import NDArray

FIXTURE = ROOT / "tests" / "unit" / "web" / "fixtures" / "preprocessing.json"

# The order of summation in a kernel depends on the processor.
LEVELS = 1


def pattern(height: int, width: int, *, background: int = 0) -> NDArray[np.uint8]:
    """A coloured disc on a background: every channel differs, and no side is like another."""
    y, x = np.mgrid[:height, :width]
    away = ((y + 0.5) / height - 0.4) ** 2 + ((x + 0.5) / width - 0.55) ** 2
    disc = np.stack([(x * 37 + y * 11 + channel * 61) % 256 for channel in range(3)], axis=2)
    return np.where(away[..., None] < 0.14, disc, background).astype(np.uint8)


def noise(height: int, width: int) -> NDArray[np.uint8]:
    values = np.arange(height * width * 3) * 48271 % 2147483647 % 256
    return values.reshape(height, width, 3).astype(np.uint8)


def grey(height: int, width: int, level: int) -> NDArray[np.uint8]:
    return np.full((height, width, 3), level, np.uint8)


# Image, and height, width and channels of what the model takes.
CASES: dict[str, tuple[NDArray[np.uint8], tuple[int, int, int]]] = {
    "the model's own size, dark border": (pattern(28, 28), (28, 28, 1)),
    "the model's own size, light border": (pattern(28, 28, background=250), (28, 28, 1)),
    "wide, dark border": (pattern(30, 70, background=20), (28, 28, 1)),
    "tall, light border": (pattern(61, 33, background=231), (28, 28, 1)),
    "noise up to the border": (noise(40, 40), (28, 28, 1)),
    "smaller than the model's": (pattern(9, 13, background=40), (28, 28, 1)),
    "one pixel": (grey(1, 1, 7), (28, 28, 1)),
    "one row": (noise(1, 12), (8, 8, 1)),
    "one column": (noise(11, 1), (8, 8, 1)),
    "border just below the middle": (grey(10, 10, 127), (8, 8, 1)),
    "border just above the middle": (grey(10, 10, 128), (8, 8, 1)),
    "a model that is wider than high": (pattern(25, 20), (10, 16, 1)),
    "a model that is higher than wide": (pattern(20, 25), (16, 10, 1)),
    "padding that is half a pixel, rounded to even": (pattern(2, 5), (8, 16, 1)),
    "colour, dark border": (pattern(26, 40, background=30), (12, 12, 3)),
    "colour, light border": (pattern(40, 26, background=220), (12, 12, 3)),
    "colour, noise up to the border": (noise(21, 15), (9, 14, 3)),
    "colour, border mean of half a level": (
        np.concatenate([grey(1, 4, 10), grey(1, 4, 11)]), (8, 8, 3),
    ),
}  # fmt: skip


def preprocessed(image: NDArray[np.uint8], shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """What the `serving_bytes` signature makes of it."""
    height, width, channels = shape
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    found = decode(file.getvalue(), size=(height, width), channels=channels)
    return np.asarray(found.numpy(), np.uint8)


def entry(name: str) -> dict[str, Any]:
    image, shape = CASES[name]
    return {
        "name": name,
        "height": image.shape[0],
        "width": image.shape[1],
        "rgb": base64.b64encode(image.tobytes()).decode(),
        "shape": dict(zip(("height", "width", "channels"), shape, strict=True)),
        "expected": base64.b64encode(preprocessed(image, shape).tobytes()).decode(),
    }


@pytest.fixture(scope="module")
def committed() -> dict[str, dict[str, Any]]:
    if os.environ.get("SERVABLE_WRITE_FIXTURES"):
        FIXTURE.write_text(json.dumps([entry(name) for name in CASES], indent=1) + "\n")
    return {case["name"]: case for case in json.loads(FIXTURE.read_text())}


def test_every_case_is_committed(committed: dict[str, dict[str, Any]]) -> None:
    assert list(committed) == list(CASES)


@pytest.mark.parametrize("name", CASES)
def test_expected_values_are_the_graphs(committed: dict[str, dict[str, Any]], name: str) -> None:
    found, now = committed[name], entry(name)
    levels, levels_now = (
        np.frombuffer(base64.b64decode(one.pop("expected")), np.uint8) for one in (found, now)
    )
    assert found == now
    assert np.abs(levels.astype(int) - levels_now).max() <= LEVELS
