"""Each way to bring a picture ends in the right class, for ten pictures of the test set."""

from __future__ import annotations

import base64
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.system.web.conftest import answered, label, next_answer, payload

from servable_serving.server.rest.page import FOLDER

if TYPE_CHECKING:
    from playwright.sync_api import Page
    from tests.system.web.conftest import Garment

# Shades of the board, and what is brighter than which is painted with them.
LAYERS = {"Middle": 0x44, "White": 0xC3}


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
        assert open_page.get_by_text("Drop it").is_visible()
        open_page.dispatch_event("main", "drop", {"dataTransfer": transfer})
        assert answered(open_page, garment.name) == garment.label
        assert not open_page.get_by_text("Drop it").is_visible()


@pytest.mark.parametrize("way", ["keys", "button"])
def test_a_pasted_picture(open_page: Page, garments: list[Garment], way: str) -> None:
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
        assert label(open_page) == garment.label


def test_each_test_picture(open_page: Page) -> None:
    buttons = open_page.locator("#samples button")
    assert buttons.count() == 20
    seen = []
    for button in buttons.all():
        with next_answer(open_page):
            button.click()
        assert label(open_page) == button.get_attribute("title")
        seen.append(label(open_page))
    assert sorted(seen[:10]) == sorted(seen[10:])
    assert len(set(seen)) == 10
    assert len(list((FOLDER / "samples").glob("*.png"))) == 20


def test_pictures_of_the_camera(open_page: Page, garments: list[Garment]) -> None:
    open_page.get_by_role("tab", name="Camera").click()
    open_page.get_by_role("button", name="Start the camera").click()
    take = open_page.get_by_role("button", name="Take a picture")
    open_page.locator("#answer .verdict strong").filter(has_text=garments[1].label).wait_for()
    found: dict[str, str] = {}
    # The film goes round, at its own pace: what was taken is told by its pixels.
    while len(found) < len(garments):
        with next_answer(open_page):
            take.click()
        pixels = seen_pixels(open_page)
        apart = [np.abs(garment.pixels.astype(int) - pixels).mean() for garment in garments]
        garment = garments[int(np.argmin(apart))]
        assert min(apart) < 40, "the camera shows none of them"
        found[garment.label] = label(open_page)
    assert found == {garment.label: garment.label for garment in garments}
    open_page.get_by_role("button", name="Stop the camera").click()
    assert take.is_disabled()


def test_the_camera_is_asked_all_the_time(open_page: Page, garments: list[Garment]) -> None:
    open_page.get_by_role("tab", name="Camera").click()
    open_page.get_by_role("button", name="Start the camera").click()
    shown = open_page.locator("#answer .verdict strong")
    for garment in garments[:3]:
        shown.filter(has_text=garment.label).wait_for()
    assert open_page.locator("#last li").count() == 1, "only what was taken is kept in the strip"


def distance(page: Page, garment: Garment) -> float:
    return float(np.abs(seen_pixels(page).astype(int) - garment.pixels).mean())


def test_a_drawing(open_page: Page, garments: list[Garment]) -> None:
    """Each picture is painted with the mouse, row by row: its shape first, then its lights."""
    open_page.get_by_role("tab", name="Draw").click()
    open_page.get_by_role("radio", name="Line").check()
    box = open_page.get_by_role("application", name="Drawing board").bounding_box()
    assert box is not None
    cell = box["width"] / 28
    for garment in garments:
        open_page.get_by_role("button", name="Clear").click()
        for shade, least in LAYERS.items():
            open_page.get_by_role("radio", name=shade).check()
            for row, first, last in runs(garment.pixels > least):
                y = box["y"] + (row + 0.5) * cell
                open_page.mouse.move(box["x"] + (first + 0.5) * cell, y)
                open_page.mouse.down()
                open_page.mouse.move(box["x"] + (last + 0.5) * cell, y)
                open_page.mouse.up()
        # What was drawn last is asked last; the answer before may still be on its way.
        open_page.locator("#answer .verdict strong").filter(has_text=garment.label).wait_for()
        # Its class may be clear before its last strokes are seen.
        end = time.monotonic() + 120
        while (apart := distance(open_page, garment)) >= 30 and time.monotonic() < end:
            open_page.wait_for_timeout(50)
        assert apart < 30, "it is not what was painted"
    assert open_page.locator("#last li").count() == 1 + len(garments), "one for each drawing"


def test_it_answers_while_one_draws(open_page: Page) -> None:
    open_page.get_by_role("tab", name="Draw").click()
    box = open_page.locator("#board").bounding_box()
    assert box is not None
    before = open_page.locator("#answers").get_attribute("data-count")
    open_page.mouse.move(box["x"] + 40, box["y"] + 200)
    open_page.mouse.down()
    for x, y in [(100, 200), (160, 120), (220, 180), (300, 200), (300, 260), (40, 260)]:
        open_page.mouse.move(box["x"] + x, box["y"] + y, steps=5)
    open_page.wait_for_selector("#picture-name:text-is('drawing')")
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
    """What the page shows as seen by the model."""
    values = page.evaluate(
        """() => {
          const canvas = document.querySelector("#seen")
          const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height)
          return [...data].filter((_, i) => i % 4 === 0)
        }"""
    )
    return np.array(values, np.uint8).reshape(28, 28)
