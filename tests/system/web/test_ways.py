"""Each way to choose an image gives the right class."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.system.web.conftest import answered, label, next_answer, payload, shows

from servable_serving.server.rest.page import FOLDER

if TYPE_CHECKING:
    from playwright.sync_api import Page
    from tests.system.web.conftest import Garment

# Shades of the board, and the level above which a pixel is painted with them.
LAYERS = {"Middle": 0x44, "White": 0xC3}

# Garments that the camera has to show, and that are drawn: a stroke takes several round trips.
FRAMES, DRAWINGS = 3, 2


def test_a_chosen_file(open_page: Page, garments: list[Garment]) -> None:
    open_page.get_by_role("tab", name="File").click()
    for garment in garments:
        open_page.get_by_label("Choose files").set_input_files(payload(garment.name, garment.png))
        assert answered(open_page, garment.name) == garment.label


def test_a_dropped_file(open_page: Page, garments: list[Garment]) -> None:
    for garment in garments:
        transfer = open_page.evaluate_handle(
            """async ([name, b64]) => {
              const bytes = Uint8Array.from(atob(b64), (c) => c.charCodeAt(0))
              const transfer = new DataTransfer()
              transfer.items.add(new File([bytes], name, { type: "image/png" }))
              return transfer
            }""",
            [garment.name, base64.b64encode(garment.png).decode()],
        )
        open_page.dispatch_event("main", "dragenter", {"dataTransfer": transfer})
        assert open_page.get_by_text("Drop to classify").is_visible()
        open_page.dispatch_event("main", "drop", {"dataTransfer": transfer})
        assert answered(open_page, garment.name) == garment.label
        assert not open_page.get_by_text("Drop to classify").is_visible()


@pytest.mark.parametrize("way", ["keys", "button"])
def test_a_pasted_image(open_page: Page, garments: list[Garment], way: str) -> None:
    open_page.get_by_role("tab", name="File").click()
    for garment in garments:
        open_page.evaluate(
            """async (b64) => {
              const bytes = Uint8Array.from(atob(b64), (c) => c.charCodeAt(0))
              const blob = new Blob([bytes], { type: "image/png" })
              await navigator.clipboard.write([new ClipboardItem({ "image/png": blob })])
            }""",
            base64.b64encode(garment.png).decode(),
        )
        with next_answer(open_page):
            if way == "keys":
                open_page.keyboard.press("Control+V")
            else:
                open_page.get_by_role("button", name="Paste").click()
        shows(open_page, garment.label)


def test_each_test_image(open_page: Page) -> None:
    buttons = open_page.locator("#samples button")
    assert buttons.count() == 20
    seen = []
    for button in buttons.all():
        with next_answer(open_page):
            button.click()
        shows(open_page, button.get_attribute("title") or "")
        seen.append(label(open_page))
    assert sorted(seen[:10]) == sorted(seen[10:])
    assert len(set(seen)) == 10
    assert len(list((FOLDER / "samples").glob("*.png"))) == 20


def test_photos_of_the_camera(open_page: Page, garments: list[Garment]) -> None:
    open_page.get_by_role("tab", name="Camera").click()
    open_page.get_by_role("button", name="Start the camera").click()
    take = open_page.get_by_role("button", name="Take a photo")
    open_page.locator("#answer .verdict strong").filter(has_text=garments[1].label).wait_for()
    found: dict[str, str] = {}
    # The film repeats at its own pace: the pixels tell which frame was taken.
    while len(found) < FRAMES:
        with next_answer(open_page):
            take.click()
        pixels = seen_pixels(open_page)
        distances = [np.abs(garment.pixels.astype(int) - pixels).mean() for garment in garments]
        garment = garments[int(np.argmin(distances))]
        assert min(distances) < 40, "the photo shows none of the garments"
        found[garment.label] = label(open_page)
    assert all(shown == expected for expected, shown in found.items()), found
    open_page.get_by_role("button", name="Stop the camera").click()
    assert take.is_disabled()


def test_the_camera_is_classified_continuously(open_page: Page, garments: list[Garment]) -> None:
    open_page.get_by_role("tab", name="Camera").click()
    open_page.get_by_role("button", name="Start the camera").click()
    shown = open_page.locator("#answer .verdict strong")
    for garment in garments[:2]:
        shown.filter(has_text=garment.label).wait_for()
    assert open_page.locator("#last li").count() == 1, "live frames are not kept in the history"


def test_a_drawing(open_page: Page, garments: list[Garment]) -> None:
    """An image is painted with the mouse, row by row: its shape first, then its highlights."""
    open_page.get_by_role("tab", name="Draw").click()
    open_page.get_by_role("radio", name="Line").check()
    box = open_page.get_by_role("application", name="Drawing board").bounding_box()
    assert box is not None
    cell = box["width"] / 28
    drawn = sorted(garments, key=lambda garment: len(strokes(garment)))[:DRAWINGS]
    for garment in drawn:
        open_page.get_by_role("button", name="Clear").click()
        chosen = None
        for shade, row, first, last in strokes(garment):
            if shade != chosen:
                open_page.get_by_role("radio", name=shade).check()
                chosen = shade
            y = box["y"] + (row + 0.5) * cell
            open_page.mouse.move(box["x"] + (first + 0.5) * cell, y)
            open_page.mouse.down()
            open_page.mouse.move(box["x"] + (last + 0.5) * cell, y)
            open_page.mouse.up()
        # The last state that was drawn is classified last; an earlier one may still be on its way.
        open_page.wait_for_function(
            """([expected, most]) => {
              const { width, height } = document.querySelector("#seen")
              const pen = document.querySelector("#seen").getContext("2d")
              const { data } = pen.getImageData(0, 0, width, height)
              const apart = expected.map((level, i) => Math.abs(level - data[4 * i]))
              return apart.reduce((sum, level) => sum + level, 0) / apart.length < most
            }""",
            arg=[garment.pixels.flatten().tolist(), 30],
        )
        open_page.locator("#answer .verdict strong").filter(has_text=garment.label).wait_for()
    assert open_page.locator("#last li").count() == 1 + len(drawn), "one for each drawing"


def strokes(garment: Garment) -> list[tuple[str, int, int, int]]:
    """Shade, row, first and last column of each stroke."""
    return [
        (shade, *run) for shade, least in LAYERS.items() for run in runs(garment.pixels > least)
    ]


def test_a_drawing_is_classified_while_it_is_drawn(open_page: Page) -> None:
    open_page.get_by_role("tab", name="Draw").click()
    box = open_page.locator("#board").bounding_box()
    assert box is not None
    before = open_page.locator("#answers").get_attribute("data-count")
    open_page.mouse.move(box["x"] + 40, box["y"] + 200)
    open_page.mouse.down()
    for x, y in [(100, 200), (160, 120), (220, 180), (300, 200), (300, 260), (40, 260)]:
        open_page.mouse.move(box["x"] + x, box["y"] + y, steps=5)
    open_page.wait_for_selector("#image-name:text-is('drawing')")
    open_page.wait_for_selector("#answers #answer .time")
    assert seen_pixels(open_page).max() > 100
    assert open_page.locator("#answers").get_attribute("data-count") == before, "still drawing"
    with next_answer(open_page):
        open_page.mouse.up()
    first = seen_pixels(open_page)
    with next_answer(open_page):
        open_page.mouse.click(box["x"] + 20, box["y"] + 20)
    assert (seen_pixels(open_page) != first).any()
    with next_answer(open_page):
        open_page.get_by_role("button", name="Undo").click()
    assert (seen_pixels(open_page) == first).all()


def runs(mask: np.ndarray) -> list[tuple[int, int, int]]:
    """Row, first and last column of each run of True."""
    edges = np.diff(np.pad(mask.astype(int), ((0, 0), (1, 1))), axis=1)
    starts, ends = np.argwhere(edges == 1), np.argwhere(edges == -1)
    return [
        (int(row), int(first), int(last) - 1)
        for (row, first), (_, last) in zip(starts, ends, strict=True)
    ]


def seen_pixels(page: Page) -> np.ndarray:
    """The model input that the page shows."""
    values = page.evaluate(
        """() => {
          const canvas = document.querySelector("#seen")
          const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height)
          return [...data].filter((_, i) => i % 4 === 0)
        }"""
    )
    return np.array(values, np.uint8).reshape(28, 28)
