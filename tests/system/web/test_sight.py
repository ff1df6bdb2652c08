"""The model input that the page shows is what the bytes signature makes of the file."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import requests
from tests.conftest import NAME
from tests.system.web.conftest import AS_IT_IS, answered, payload, visit
from tests.system.web.photos import as_png, varied
from tests.system.web.test_ways import seen_pixels

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from playwright.sync_api import Page
    from tests.conftest import RunningServer
    from tests.system.web.conftest import Garment

    from servable_trainer.data.dataset import Dataset

IMAGES = 100
# Mean difference over an image, in grey levels.
APART = 2

# The page's own modules, applied to files in base64.
SEE = """async (files) => {
  const { read } = await import("/image.js")
  const { see } = await import("/see.js")
  const found = []
  for (const [name, b64] of files) {
    const bytes = Uint8Array.from(atob(b64), (c) => c.charCodeAt(0))
    const image = await read(new Blob([bytes]), name)
    const { pixels, light, inverted } = see(image.data, { height: 28, width: 28, channels: 1 })
    found.push({ pixels: [...pixels], light, inverted, about: image.about })
  }
  return found
}"""


@pytest.fixture(scope="module")
def files(dataset: Dataset, garments: list[Garment]) -> dict[str, bytes]:
    images = {f"{i}.png": as_png(image) for i, image in enumerate(dataset.test.images[:IMAGES])}
    order = sorted(garments, key=lambda garment: dataset.labels.index(garment.label))
    photos = varied([garment.pixels for garment in order])
    assert len(photos) == 10
    return {**images, **photos}


@pytest.fixture(scope="module")
def by_graph(files: dict[str, bytes]) -> dict[str, NDArray[np.uint8]]:
    """The files after the preprocessing of the bytes signature."""
    import tensorflow as tf

    from servable_serving.model.preprocessing import decode

    run = tf.function(
        lambda one: decode(one, size=(28, 28)),
        input_signature=[tf.TensorSpec([], tf.string)],
        autograph=False,
    )
    return {name: run(content).numpy() for name, content in files.items()}


def predict(server: RunningServer, signature: str, instances: list[Any]) -> list[dict[str, Any]]:
    reply = requests.post(
        f"{server.http}/v1/models/{NAME}/versions/1:predict",
        json={"signature_name": signature, "instances": instances},
        timeout=120,
    )
    assert reply.status_code == 200, reply.text
    return list(reply.json()["predictions"])


def test_pixels_and_classes_agree(
    open_page: Page,
    stand: RunningServer,
    files: dict[str, bytes],
    by_graph: dict[str, NDArray[np.uint8]],
) -> None:
    encoded = [(name, base64.b64encode(content).decode()) for name, content in files.items()]
    seen = open_page.evaluate(SEE, encoded)
    pixels = [np.array(one["pixels"], np.uint8).reshape(28, 28) for one in seen]
    apart = {
        name: np.abs(mine.astype(int) - by_graph[name]).mean()
        for name, mine in zip(files, pixels, strict=True)
    }
    assert max(apart.values()) < APART, apart
    assert max(list(apart.values())[:IMAGES]) < 0.1, "an image of the model's size is not changed"
    photos = dict(list(zip(files, seen, strict=True))[IMAGES:])
    assert {name for name, one in photos.items() if one["inverted"]} == {
        "on-white.jpg", "on-sand.jpg", "gradient.jpg", "cloth.jpg", "transparent.png", "turned.jpg"
    }  # fmt: skip
    mine = predict(stand, "serving_default", [one.tolist() for one in pixels])
    theirs = predict(stand, "serving_bytes", [{"b64": b64} for _, b64 in encoded])
    assert [a["label"] for a in mine] == [a["label"] for a in theirs]


def test_the_page_shows_and_overrides_the_inversion(
    open_page: Page, files: dict[str, bytes], by_graph: dict[str, NDArray[np.uint8]]
) -> None:
    bodies: list[Any] = []
    open_page.on(
        "request", lambda r: bodies.append(r.post_data_json) if ":predict" in r.url else None
    )
    name = "on-white.jpg"
    open_page.get_by_role("tab", name="File").click()
    open_page.get_by_label("Choose files").set_input_files(payload(name, files[name], "image/jpeg"))
    answered(open_page, name)
    switch = open_page.get_by_role("switch", name="Inverted")
    assert switch.is_checked()
    assert open_page.get_by_text("The border is light").is_visible()
    assert np.abs(seen_pixels(open_page).astype(int) - by_graph[name]).mean() < APART
    assert bodies[-1]["signature_name"] == "serving_bytes"

    switch.press("Space")
    open_page.get_by_text("Set by you.").wait_for()
    open_page.get_by_text("serving_default").wait_for()  # in the command to copy
    assert not switch.is_checked()
    not_inverted = 255 - seen_pixels(open_page)
    assert np.abs(not_inverted.astype(int) - by_graph[name]).mean() < APART
    assert bodies[-1]["signature_name"] == "serving_default"
    assert np.array_equal(255 - np.array(bodies[-1]["instances"][0]), not_inverted)

    open_page.get_by_role("button", name="Reset to automatic").click()
    open_page.get_by_text("The border is light").wait_for()
    assert switch.is_checked()


def test_the_page_inverts_nothing_for_a_model_that_does_not(
    page: Page,
    stand: RunningServer,
    files: dict[str, bytes],
    by_graph: dict[str, NDArray[np.uint8]],
) -> None:
    """Its metadata is that of a model that inverts; the page asks it for an answer."""
    visit(page, f"{stand.http}/?model={AS_IT_IS}")
    page.get_by_role("tab", name="File").click()
    name = "on-white.jpg"
    page.get_by_label("Choose files").set_input_files(payload(name, files[name], "image/jpeg"))
    answered(page, name)
    assert page.get_by_text("the model takes images as they are").is_visible()
    switch = page.get_by_role("switch", name="Inverted")
    assert not switch.is_checked()
    as_it_is = 255 - seen_pixels(page)
    assert np.abs(as_it_is.astype(int) - by_graph[name]).mean() < APART

    switch.press("Space")
    page.get_by_text("Set by you.").wait_for()
    assert np.abs(seen_pixels(page).astype(int) - by_graph[name]).mean() < APART
