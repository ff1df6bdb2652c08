"""How the page is served, its size, and its accessibility."""

from __future__ import annotations

import gzip
import html
import re
import shutil
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING, Literal

import pytest
import requests
from tests.conftest import NAME, ROOT
from tests.system.web.conftest import DESK, PHONE, answered, next_answer, shows, visit

from servable_serving.server.rest.page import FOLDER, HEADERS, POLICY

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import FilePayload, Page, Request, ViewportSize
    from tests.conftest import RunningServer

FIRST_LOAD = 100_000


def test_headers(stand: RunningServer) -> None:
    for path, kind in {
        "/": "text/html",
        "/app.js": "text/javascript",
        "/style.css": "text/css",
        "/samples/bag-31.png": "image/png",
    }.items():
        reply = requests.get(stand.http + path, timeout=60)
        assert reply.status_code == 200
        assert reply.headers["content-type"].split(";")[0] == kind
        assert {name: reply.headers.get(name) for name in HEADERS} == HEADERS
        again = requests.get(
            stand.http + path, headers={"If-None-Match": reply.headers["etag"]}, timeout=60
        )
        assert again.status_code == 304


def test_the_api_is_not_shadowed(stand: RunningServer) -> None:
    for method, path, status in [
        ("GET", f"/v1/models/{NAME}", 200),
        ("GET", "/v1/", 400),
        ("POST", "/", 404),
        ("GET", "/favicon.ico", 404),
        ("GET", "/README.md", 404),
        ("GET", "/samples/", 404),
        ("GET", "/../_page.py", 404),
        ("GET", "/..%2f_page.py", 404),
    ]:
        prepared = requests.Request(method, stand.http + path).prepare()
        prepared.url = stand.http + path  # as it is, dots and all
        with requests.Session() as session:
            assert session.send(prepared, timeout=60).status_code == status, path


def test_the_page_s_own_policy_is_the_server_s() -> None:
    found = re.search(
        r'http-equiv="Content-Security-Policy" content="([^"]*)"',
        (FOLDER / "index.html").read_text(),
    )
    assert found is not None
    # Browsers ignore frame-ancestors in a <meta>.
    assert html.unescape(found[1]) == POLICY.replace("frame-ancestors 'none'; ", "")


def test_nothing_comes_from_elsewhere() -> None:
    for path in FOLDER.rglob("*"):
        if path.suffix in {".html", ".js", ".css", ".svg"}:
            text = path.read_text().replace("http://www.w3.org/2000/svg", "")
            urls = [line for line in text.splitlines() if "//" in line and "http" in line]
            assert all(line.lstrip().startswith("//") for line in urls), (path, urls)


def test_the_first_load_is_light(page: Page, stand: RunningServer) -> None:
    finished: list[Request] = []

    def ended(request: Request) -> None:
        finished.append(request)

    page.on("requestfinished", ended)  # Playwright sets an attribute on it: not list.append
    visit(page, stand.http)
    answered(page, "ankle-boot-0.png")
    page.wait_for_load_state("networkidle")
    # From the server, since the browser does not keep every body.
    weights = {
        request.url: len(gzip.compress(requests.get(request.url, timeout=60).content))
        for request in finished
        if request.url.startswith("http") and "/v1/" not in request.url
    }
    assert len(weights) > 30, "the modules, the styles and the twenty images"
    assert sum(weights.values()) < FIRST_LOAD, weights


def test_a_wheel_holds_the_page(tmp_path: Path) -> None:
    # From a copy: setuptools also packs what an earlier build left in its build folder.
    source = tmp_path / "source"
    for part in ("client", "serving", "trainer"):
        unwanted = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / part, source / part, ignore=unwanted)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    done = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, source],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if "servable_serving/web/" in name}
    served = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert held == {f"servable_serving/web/{path.relative_to(FOLDER)}" for path in served}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_axe_finds_nothing(
    open_page: Page, scheme: Literal["light", "dark"], size: ViewportSize
) -> None:
    from axe_playwright_python.sync_playwright import Axe

    open_page.emulate_media(color_scheme=scheme)
    open_page.set_viewport_size(size)
    with next_answer(open_page):
        open_page.get_by_role("combobox", name="Compare with").select_option("version 2")
    files: list[FilePayload] = [
        {"name": f"{i}.png", "mimeType": "image/png", "buffer": b"no"} for i in range(2)
    ]
    for tab in ("Test images", "Draw", "Camera", "File"):
        open_page.get_by_role("tab", name=tab).click()
        if tab == "File":  # with a table of files and the form for a key
            open_page.get_by_label("Choose files").set_input_files(files)
            open_page.get_by_text("0 of 2 classified, 2 failed").wait_for()
            open_page.get_by_role("tab", name="Python").click()
            open_page.get_by_role("button", name="API key").click()
        found = Axe().run(open_page)
        assert found.violations_count == 0, found.generate_report()
        assert len(found.response["passes"]) > 20


def test_a_phone(open_page: Page) -> None:
    """360 x 640: nothing overflows, and the answer stays visible in every tab."""
    open_page.set_viewport_size(PHONE)
    glance = open_page.locator("#glance")
    for tab in ("Test images", "Draw", "File", "Camera"):
        open_page.get_by_role("tab", name=tab).click()
        assert open_page.evaluate("() => document.documentElement.scrollWidth") == PHONE["width"]
        box = glance.bounding_box()
        assert box is not None
        assert box["y"] + box["height"] <= PHONE["height"]
    open_page.get_by_role("tab", name="Draw").click()
    board = open_page.locator("#board")
    board.scroll_into_view_if_needed()
    box = board.bounding_box()
    assert box is not None
    with next_answer(open_page):
        open_page.mouse.move(box["x"] + 60, box["y"] + 200)
        open_page.mouse.down()
        open_page.mouse.move(box["x"] + 240, box["y"] + 90, steps=4)
        open_page.mouse.move(box["x"] + 200, box["y"] + 250, steps=4)
        open_page.mouse.up()
    shows(open_page, glance.locator("b").inner_text())
    glance.click()
    assert open_page.locator("#answer .verdict").is_visible()


def test_by_keyboard_alone(open_page: Page) -> None:
    press, focused = open_page.keyboard.press, open_page.locator(":focus")
    press("Tab")
    assert focused.get_attribute("class") == "skip"
    # To the tabs, and to a test image.
    for _ in range(2):
        press("Tab")
    assert focused.inner_text() == "Test images"
    press("Tab")
    assert focused.get_attribute("title") == "T-shirt/top"
    press("Tab")
    with next_answer(open_page):
        press("Enter")
    shows(open_page, "Trouser")
    # To the board: an outline of trousers; Shift moves by five pixels.
    press("Shift+Tab")
    press("Shift+Tab")
    press("ArrowRight")
    assert focused.inner_text() == "Draw"
    press("Tab")
    assert focused.get_attribute("aria-label") == "Drawing board"
    for _ in range(2):
        press("Shift+ArrowUp")
    for _ in range(4):
        press("ArrowLeft")
    press("Space")
    assert open_page.locator("#cursor.down").is_visible()
    outline = [("Right", 8), ("Down", 20), ("Left", 3), ("Up", 16), ("Left", 2), ("Down", 16)]
    for way, steps in [*outline, ("Left", 3), ("Up", 20)]:
        for _ in range(steps):
            press(f"Arrow{way}")
    with next_answer(open_page):
        press("Space")
    shows(open_page, "Trouser")
    # The switch, and the versions.
    with next_answer(open_page):
        open_page.get_by_role("switch", name="Inverted").focus()
        press("Space")
    with next_answer(open_page):
        open_page.get_by_role("combobox", name="Predict with").focus()
        press("ArrowDown")
    assert open_page.locator("#answer h3").inner_text() == "canary · version 2"


def test_answers_are_announced_to_screen_readers(open_page: Page) -> None:
    with next_answer(open_page):
        open_page.get_by_role("button", name="Bag").first.click()
    said = open_page.locator("#said")
    assert said.get_attribute("role") == "status"
    assert re.fullmatch(r"Bag, [0-9.]+ %, version 1", said.inner_text())
