"""The screenshots of docs/web.md.

    SERVABLE_SCREENSHOTS=docs pytest tests/system/web/test_screenshots.py

writes them. Without it they are only made, to show that they can be.
"""

from __future__ import annotations

import os
from io import BytesIO
from typing import TYPE_CHECKING

import pytest
from PIL import Image
from tests.conftest import ROOT
from tests.system.web.conftest import PHONE, answered, next_answer, payload
from tests.system.web.photos import encoded, photo, plain

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Page
    from tests.system.web.conftest import Garment

COLOURS = 160
MAX_BYTES = 150_000

# A T-shirt in outline, the left half of it, in the board's 280 pixels.
SHIRT = [(112, 26), (88, 34), (40, 70), (62, 108), (84, 92), (84, 254), (140, 254)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    asked = os.environ.get("SERVABLE_SCREENSHOTS")
    return ROOT / asked if asked else tmp_path


def shoot(page: Page, target: Path, *, full: bool = False) -> None:
    """With few colours, to keep the repository small."""
    page.wait_for_load_state("networkidle")
    # Times differ between machines; a screenshot should change only when the page does.
    for place, text in {"#answer .time": "4 ms", "#rival-answer .time": "4 ms"}.items():
        page.locator(place).evaluate("(element, text) => (element.textContent = text)", text)
    page.locator("#server-seen").evaluate(
        "(element) => (element.textContent = 'Last response now.')"
    )
    shot = Image.open(BytesIO(page.screenshot(full_page=full))).convert("RGB")
    shot.quantize(COLOURS, dither=Image.Dither.NONE).save(target, optimize=True)
    assert target.stat().st_size < MAX_BYTES


def test_a_test_image(open_page: Page, folder: Path) -> None:
    for name in ("Dress", "Bag", "Trouser", "Sandal"):
        with next_answer(open_page):
            open_page.locator("#samples").get_by_role("button", name=name).first.click()
    open_page.evaluate("() => document.activeElement.blur()")
    shoot(open_page, folder / "web-light.png")


def test_a_photo(open_page: Page, folder: Path, garments: list[Garment]) -> None:
    boot = next(garment for garment in garments if garment.label == "Ankle boot")
    ground = plain(246, 245, 242)
    shot = photo(boot.pixels, ground, width=1200, height=1200, colour=(96, 40, 24))
    open_page.get_by_role("tab", name="File").click()
    open_page.get_by_label("Choose files").set_input_files(
        payload("boot.jpg", encoded(shot, "JPEG"), "image/jpeg")
    )
    assert answered(open_page, "boot.jpg") == "Ankle boot"
    shoot(open_page, folder / "web-photo.png")


def test_a_drawing(open_page: Page, folder: Path) -> None:
    open_page.get_by_role("tab", name="Draw").click()
    open_page.get_by_role("switch", name="Mirror").check()
    box = open_page.locator("#board").bounding_box()
    assert box is not None
    scale = box["width"] / 280
    with next_answer(open_page):
        for i, (x, y) in enumerate([*SHIRT, (140, 40)]):
            open_page.mouse.move(box["x"] + x * scale, box["y"] + y * scale, steps=8)
            if i == 0:
                open_page.mouse.down()
        open_page.mouse.up()
    shoot(open_page, folder / "web-draw.png")


def test_versions_that_differ(open_page: Page, folder: Path) -> None:
    open_page.emulate_media(color_scheme="dark")
    with next_answer(open_page):
        open_page.get_by_role("combobox", name="Compare with").select_option("canary · version 2")
    differ = open_page.locator("#agreement.differ")
    for button in open_page.locator("#samples button").all():
        with next_answer(open_page):
            button.click()
        if differ.is_visible():
            break
    assert differ.is_visible()
    open_page.evaluate("() => document.activeElement.blur()")
    shoot(open_page, folder / "web-compare.png")


def test_a_phone(open_page: Page, folder: Path) -> None:
    open_page.set_viewport_size(PHONE)
    open_page.emulate_media(color_scheme="dark")
    with next_answer(open_page):
        open_page.locator("#samples").get_by_role("button", name="Sneaker").first.click()
    open_page.evaluate("() => document.activeElement.blur()")
    shoot(open_page, folder / "web-phone.png")
