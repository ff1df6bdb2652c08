"""Input ranges: pixels to a network's numbers and back, and which range examples show."""

from __future__ import annotations

import numpy as np
import pytest

from servable_serving.exporter.errors import ExportError
from servable_serving.exporter.image_examples import are_light_on_dark, as_images
from servable_serving.exporter.input_range import RANGES, choose, range_of

PIXELS = np.random.default_rng(0).integers(0, 256, [3, 8, 8, 3], np.uint8)


def scaled(name: str, pixels: np.ndarray) -> np.ndarray:
    """As notebooks do, in float32."""
    x = pixels.astype(np.float32)
    if name == "0..1":
        return x / 255
    if name == "-1..1":
        return x / 127.5 - 1
    if name == "caffe":
        return x[..., ::-1] - np.array([103.939, 116.779, 123.68], np.float32)
    if name == "torch":
        mean, deviation = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
        return (x / 255 - np.array(mean, np.float32)) / np.array(deviation, np.float32)
    return x


@pytest.mark.parametrize("name", RANGES)
def test_pixels_come_back(name: str) -> None:
    np.testing.assert_array_equal(RANGES[name].pixels(scaled(name, PIXELS)), PIXELS)


@pytest.mark.parametrize("name", RANGES)
def test_examples_in_a_range_are_recognized(name: str) -> None:
    images, found = as_images(scaled(name, PIXELS), channels=3, input_range=None)
    assert (images == PIXELS).all()
    assert found == (None if name == "0..255" else name)


def test_numbers_of_another_range_are_refused() -> None:
    for wrong in (PIXELS / 100, PIXELS * 2.0, PIXELS / 255 * np.nan):
        with pytest.raises(ExportError):
            as_images(wrong, channels=3, input_range=None)
    with pytest.raises(ExportError, match=r"-1\.\.1"):
        as_images(scaled("0..1", PIXELS), channels=3, input_range="-1..1")


@pytest.mark.parametrize(
    ("shape", "channels"),
    [((3, 8, 8), 3), ((3, 8, 8, 3), 1), ((3, 64), 1), ((0, 8, 8), 1), ((3, 8, 8, 4), 3)],
)
def test_examples_of_another_form_are_refused(shape: tuple[int, ...], channels: int) -> None:
    with pytest.raises(ExportError, match="images"):
        as_images(np.zeros(shape, np.uint8), channels=channels, input_range=None)
    with pytest.raises(ExportError, match="images"):
        as_images(np.full(shape, "a"), channels=channels, input_range=None)


def test_grey_images_lose_their_channel() -> None:
    grey = PIXELS[..., :1]
    images, _ = as_images(grey, channels=1, input_range=None)
    assert (images == grey[..., 0]).all()
    images, _ = as_images(grey.astype(np.int64), channels=1, input_range=None)
    assert images.dtype == np.uint8


def test_a_dark_ground_is_that_of_nearly_all() -> None:
    dark = np.zeros([100, 8, 8], np.uint8)
    dark[:, 2:6, 2:6] = 255
    assert are_light_on_dark(dark)
    assert not are_light_on_dark(255 - dark)
    few = dark.copy()
    few[:4] = 255 - few[:4]
    assert are_light_on_dark(few)
    few[:10] = 255 - dark[:10]
    assert not are_light_on_dark(few)
    assert not are_light_on_dark(PIXELS)


def test_an_unknown_range_is_refused() -> None:
    with pytest.raises(ExportError) as caught:
        range_of("0..2")
    assert "caffe" in (caught.value.hint or "")


def test_the_range_with_the_best_accuracy_is_chosen() -> None:
    accuracies = {"0..1": 0.1, "-1..1": 0.9, "0..255": 0.3, "caffe": 0.95, "torch": 0.1}
    found, measured = choose(lambda one: accuracies[one.name], colour=True, count=1000)
    assert (found.name, measured) == ("caffe", accuracies)
    found, measured = choose(lambda one: accuracies[one.name], colour=False, count=1000)
    assert found.name == "-1..1"
    assert set(measured) == {"0..1", "-1..1", "0..255"}


@pytest.mark.parametrize(("best", "count"), [(0.9, 1000), (0.95, 20), (0.91, 500)])
def test_chance_does_not_choose(best: float, count: int) -> None:
    accuracies = {"0..1": best, "-1..1": 0.9, "0..255": 0.1}
    with pytest.raises(ExportError) as caught:
        choose(lambda one: accuracies[one.name], colour=False, count=count)
    assert "--input-range" in (caught.value.hint or "")
