"""What goes wrong is said plainly, with what to do, and the page goes on where it was."""

from __future__ import annotations

import re
import shutil
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import pytest
import requests
from PIL import Image
from tests.conftest import NAME, free_port, serving
from tests.system.web.conftest import answered, label, next_answer, payload, trouble
from tests.system.web.photos import encoded

from servable_client import Client
from servable_serving.server.rest.page import FOLDER

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Page, Route
    from tests.conftest import RunningServer
    from tests.system.web.conftest import Garment

KEY = "a-right-key"


@contextmanager
def served_at(port: int, models: Path, log: Path) -> Iterator[None]:
    """A server at a certain port, of the version that is loaded in no time."""
    flags = [f"--rest_api_port={port}", "--web", "--enable_model_warmup=false"]
    with serving(models, log, *flags, wait=False):
        with Client(f"http://127.0.0.1:{port}", model=NAME) as client:
            client.wait_until_available(timeout=300)
        yield


def test_a_server_that_is_stopped_and_started_again(
    page: Page, two_versions: Path, tmp_path: Path
) -> None:
    models, port = tmp_path / NAME, free_port()
    shutil.copytree(two_versions / NAME / "2", models / "2")
    with served_at(port, models, tmp_path / "log"):
        page.goto(f"http://127.0.0.1:{port}")
        answered(page, "ankle-boot-0.png")
        assert page.get_by_text("Serving version 2").is_visible()
    said = trouble(page, "away")
    assert "does not answer" in said
    assert "Start it" in said
    assert page.get_by_text("Not serving").is_visible()
    # What is asked meanwhile is answered later.
    page.get_by_role("switch", name="Inverted").press("Space")
    before = page.locator("#answers").get_attribute("data-count")
    with served_at(port, models, tmp_path / "log-again"):
        page.locator("#trouble").wait_for(state="hidden")
        page.locator(f"#answers:not([data-count='{before}'])").wait_for()
        page.get_by_text("Serving version 2").wait_for()
        assert "serving_default" in page.locator("#curl").inner_text()


@pytest.fixture
def gateway(stand: RunningServer, tmp_path: Path) -> Iterator[str]:
    """nginx, which serves the page, and lets a few at once through who have the key."""
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if nginx is None:
        pytest.skip("there is no nginx on this machine")
    port = free_port()
    spools = "".join(
        f"{kind}_temp_path {tmp_path};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi")
    )
    config = tmp_path / "nginx.conf"
    config.write_text(
        f"daemon off; master_process off; pid {tmp_path}/pid; error_log stderr; events {{}}\n"
        f"http {{ {spools} scgi_temp_path {tmp_path}; access_log off;\n"
        "types { text/html html; text/css css; text/javascript js; image/png png;"
        " image/svg+xml svg; }\n"
        f'map $http_x_api_key $refused {{ default 1; "{KEY}" 0; }}\n'
        "limit_req_zone $binary_remote_addr zone=one:1m rate=1r/s; limit_req_status 429;\n"
        f"server {{ listen 127.0.0.1:{port}; root {FOLDER.resolve()};\n"
        "location /v1/ { if ($refused) { return 401; }"
        f" proxy_pass {stand.http}; }}\n"
        "location ~ ^/v1/.*:predict$ { if ($refused) { return 401; }"
        f" limit_req zone=one burst=1 nodelay; proxy_pass {stand.http}; }} }} }}\n"
    )
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([nginx, "-c", str(config)], stdout=log, stderr=log)
    try:
        address = f"http://127.0.0.1:{port}"
        while process.poll() is None:
            try:
                requests.get(address, timeout=120)
                break
            except requests.ConnectionError:
                continue
        assert process.poll() is None, (tmp_path / "log").read_text()
        yield address
    finally:
        process.terminate()
        process.wait(120)


def test_a_key_that_is_missing_and_wrong_and_right(page: Page, gateway: str) -> None:
    page.goto(gateway)
    assert "wants an API key" in trouble(page, "key")
    box = page.get_by_role("textbox", name="API key")
    box.fill("a-wrong-key")
    box.press("Enter")
    page.get_by_text("The server refuses this key").wait_for()
    box.fill(KEY)
    page.get_by_role("button", name="Use it").click()
    assert answered(page, "ankle-boot-0.png") == "Ankle boot"
    assert page.locator("#trouble").is_hidden()
    # Kept for this tab, and shown nowhere.
    page.reload()
    answered(page, "ankle-boot-0.png")
    assert KEY not in page.content()
    assert "$SERVABLE_API_KEY" in page.locator("#curl").inner_text()
    # Taken away again.
    page.get_by_role("button", name="API key").click()
    page.get_by_role("button", name="Use it").click()
    assert "wants an API key" in trouble(page, "key")


def test_a_gateway_that_asks_for_fewer_questions(
    page: Page, gateway: str, garments: list[Garment]
) -> None:
    """More files than it lets through at once are all answered, after a while."""
    limited = []
    page.on("response", lambda reply: limited.append(reply) if reply.status == 429 else None)
    page.goto(gateway)
    page.get_by_role("textbox", name="API key").fill(KEY)
    page.get_by_role("button", name="Use it").click()
    answered(page, "ankle-boot-0.png")
    page.get_by_role("tab", name="File").click()
    page.get_by_label("Choose files").set_input_files(
        [payload(garment.name, garment.png) for garment in garments[:4]]
    )
    page.get_by_text("4 of 4 answered").wait_for()
    assert limited
    assert page.locator("#trouble").is_hidden()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("notes.png", b"These are notes, and no picture.\n" * 20, "is not a picture"),
        ("broken.png", b"\x89PNG\r\n\x1a\n" + b"\0" * 200, "is not a picture"),
        ("empty.png", b"", "is empty"),
    ],
)
def test_a_file_that_is_no_picture(open_page: Page, name: str, content: bytes, said: str) -> None:
    open_page.get_by_role("tab", name="File").click()
    open_page.get_by_label("Choose files").set_input_files(payload(name, content))
    told = trouble(open_page, "picture")
    assert name in told
    assert said in told
    assert "PNG, JPEG" in told
    # The next that is one is answered, and the trouble is over.
    open_page.get_by_role("tab", name="Test pictures").click()
    with next_answer(open_page):
        open_page.get_by_role("button", name="Bag").first.click()
    assert label(open_page) == "Bag"
    assert open_page.locator("#trouble").is_hidden()


def test_a_photo_of_50_megapixels(open_page: Page, garments: list[Garment]) -> None:
    """It is shrunk before it is sent: the server takes 4096 x 4096 pixels and 10 MiB."""
    bag = next(garment for garment in garments if garment.label == "Bag")
    soft = Image.fromarray(bag.pixels).resize((5700, 5700), Image.Resampling.BICUBIC)
    photo = Image.new("L", (8700, 5800))
    photo.paste(soft, (1500, 50))
    content = encoded(Image.merge("RGB", [photo] * 3), "JPEG", quality=95)
    assert photo.width * photo.height > 50e6
    sizes = []
    open_page.on(
        "request", lambda r: sizes.append(len(r.post_data or "")) if ":predict" in r.url else None
    )
    open_page.get_by_role("tab", name="File").click()
    open_page.get_by_label("Choose files").set_input_files(
        payload("large.jpg", content, "image/jpeg")
    )
    assert answered(open_page, "large.jpg") == "Bag"
    said = open_page.locator("#picture-about").inner_text()
    assert re.findall("[0-9]+", said) == ["8700", "5800", "1024", "683"]
    assert max(sizes) < 500_000


def test_a_question_that_is_lost_is_asked_again(page: Page, stand: RunningServer) -> None:
    lost = []

    def lose(route: Route) -> None:
        lost.append(route.request.url)
        if len(lost) < 3:
            route.abort()
        else:
            route.continue_()

    page.route("**/*:predict", lose)
    page.goto(stand.http)
    assert "does not answer" in trouble(page, "away")
    assert answered(page, "ankle-boot-0.png") == "Ankle boot"
    page.locator("#trouble").wait_for(state="hidden")


def test_a_model_that_is_not_there(page: Page, stand: RunningServer) -> None:
    page.goto(f"{stand.http}?model=nosuch")
    assert "knows no such model" in trouble(page, "unknown")
    page.get_by_role("textbox", name="Model").fill(NAME)
    page.keyboard.press("Enter")
    answered(page, "ankle-boot-0.png")
    assert page.url.endswith(f"?model={NAME}")


def test_what_was_dropped_or_pasted_is_no_file(open_page: Page) -> None:
    transfer = open_page.evaluate_handle("() => new DataTransfer()")
    open_page.dispatch_event("main", "drop", {"dataTransfer": transfer})
    assert "no file" in trouble(open_page, "picture")
    open_page.evaluate("() => navigator.clipboard.writeText('words')")
    open_page.keyboard.press("Control+V")
    open_page.get_by_text("There is no picture in the clipboard").wait_for()


def test_a_grey_photo_of_one_pixel_is_no_trouble(open_page: Page) -> None:
    content = encoded(Image.fromarray(np.full((1, 1), 7, np.uint8)), "BMP")
    open_page.get_by_role("tab", name="File").click()
    open_page.get_by_label("Choose files").set_input_files(payload("dot.bmp", content))
    answered(open_page, "dot.bmp")
