"""Failures are shown with advice, and the page resumes after them."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import numpy as np
import pytest
import requests
from PIL import Image
from tests.conftest import NAME, free_port
from tests.system.web.conftest import answered, next_answer, payload, shows, trouble, visit
from tests.system.web.photos import encoded

from servable_serving.server.rest.page import FOLDER

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Page, Route
    from tests.conftest import RunningServer
    from tests.system.web.conftest import Garment

KEY = "a-valid-key"


def test_a_server_that_cannot_be_reached_for_a_while(open_page: Page) -> None:
    open_page.context.set_offline(True)
    trouble(open_page, "unreachable")
    assert open_page.locator("#state.down").is_visible()
    # What is asked meanwhile is answered later.
    open_page.get_by_role("switch", name="Inverted").press("Space")
    with next_answer(open_page):
        open_page.context.set_offline(False)
    open_page.locator("#trouble").wait_for(state="hidden")
    assert open_page.locator("#state.up").is_visible()
    assert "serving_default" in open_page.locator("#curl").inner_text()


@pytest.fixture
def gateway(stand: RunningServer, tmp_path: Path) -> Iterator[str]:
    """nginx in front of the server: it requires the key and limits the rate of requests."""
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if nginx is None:
        pytest.skip("nginx is not installed")
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


def test_an_api_key_that_is_missing_invalid_and_valid(page: Page, gateway: str) -> None:
    visit(page, gateway)
    required = trouble(page, "key")
    box = page.get_by_role("textbox", name="API key")
    box.fill("an-invalid-key")
    box.press("Enter")
    message = page.locator("#trouble-message")
    page.get_by_text("The server rejected this API key").wait_for()
    assert message.inner_text() not in required
    box.fill(KEY)
    page.get_by_role("button", name="Use it").click()
    assert answered(page, "ankle-boot-0.png") == "Ankle boot"
    assert page.locator("#trouble").is_hidden()
    # Kept for this tab, and not shown.
    visit(page, page.url)
    answered(page, "ankle-boot-0.png")
    assert KEY not in page.content()
    assert "$SERVABLE_API_KEY" in page.locator("#curl").inner_text()
    # Removed again.
    page.get_by_role("button", name="API key").click()
    page.get_by_role("button", name="Use it").click()
    assert trouble(page, "key") == required


def test_a_gateway_that_limits_the_rate(page: Page, gateway: str, garments: list[Garment]) -> None:
    """More files than it accepts at once are all classified in the end."""
    limited = []
    page.on("response", lambda reply: limited.append(reply) if reply.status == 429 else None)
    visit(page, gateway)
    page.get_by_role("textbox", name="API key").fill(KEY)
    page.get_by_role("button", name="Use it").click()
    answered(page, "ankle-boot-0.png")
    page.get_by_role("tab", name="File").click()
    page.get_by_label("Choose files").set_input_files(
        [payload(garment.name, garment.png) for garment in garments[:4]]
    )
    page.get_by_text("4 of 4 classified").wait_for()
    assert limited
    assert page.locator("#trouble").is_hidden()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("notes.png", b"These are notes.\n" * 20),
        ("broken.png", b"\x89PNG\r\n\x1a\n" + b"\0" * 200),
        ("empty.png", b""),
    ],
    ids=["notes", "broken", "empty"],
)
def test_a_file_that_is_not_an_image(open_page: Page, name: str, content: bytes) -> None:
    open_page.get_by_role("tab", name="File").click()
    open_page.get_by_label("Choose files").set_input_files(payload(name, content))
    assert name in trouble(open_page, "image")
    # The next image is classified, and the failure disappears.
    open_page.get_by_role("tab", name="Test images").click()
    with next_answer(open_page):
        open_page.get_by_role("button", name="Bag").first.click()
    shows(open_page, "Bag")
    assert open_page.locator("#trouble").is_hidden()


def test_a_photo_of_50_megapixels(open_page: Page, garments: list[Garment]) -> None:
    """It is resized before it is sent: the server accepts 4096 x 4096 pixels and 10 MiB."""
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
    about = open_page.locator("#image-about").inner_text()
    assert re.findall("[0-9]+", about) == ["8700", "5800", "1024", "683"]
    assert max(sizes) < 500_000


def test_a_request_that_fails_is_retried(page: Page, stand: RunningServer) -> None:
    def lose(route: Route) -> None:
        route.abort()

    page.route("**/*:predict", lose)
    visit(page, stand.http)
    trouble(page, "unreachable")
    page.unroute("**/*:predict", lose)
    assert answered(page, "ankle-boot-0.png") == "Ankle boot"
    page.locator("#trouble").wait_for(state="hidden")


def test_a_model_that_does_not_exist(page: Page, stand: RunningServer) -> None:
    visit(page, f"{stand.http}?model=nosuch")
    assert "nosuch" in trouble(page, "missing")
    page.get_by_role("textbox", name="Model").fill(NAME)
    page.keyboard.press("Enter")
    answered(page, "ankle-boot-0.png")
    assert page.url.endswith(f"?model={NAME}")


def test_text_is_dropped_or_pasted(open_page: Page) -> None:
    transfer = open_page.evaluate_handle("() => new DataTransfer()")
    open_page.dispatch_event("main", "drop", {"dataTransfer": transfer})
    dropped = trouble(open_page, "image")
    open_page.evaluate("() => navigator.clipboard.writeText('words')")
    open_page.keyboard.press("Control+V")
    open_page.get_by_text("There is no image in the clipboard").wait_for()
    assert trouble(open_page, "image") != dropped


def test_an_image_of_one_grey_pixel(open_page: Page) -> None:
    content = encoded(Image.fromarray(np.full((1, 1), 7, np.uint8)), "BMP")
    open_page.get_by_role("tab", name="File").click()
    open_page.get_by_label("Choose files").set_input_files(payload("dot.bmp", content))
    answered(open_page, "dot.bmp")


def test_a_page_of_another_host_gets_no_prediction(page: Page, stand: RunningServer) -> None:
    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    address = f"{stand.http}/v1/models/{NAME}:predict"
    with ThreadingHTTPServer(("127.0.0.1", 0), Other) as other:
        threading.Thread(target=other.serve_forever, args=(0.05,), daemon=True).start()
        # The browser takes the two names of this machine for two sites.
        visit(page, f"http://localhost:{other.server_port}/")
        with page.expect_response(address) as answer:
            page.evaluate(
                "(url) => fetch(url, {method: 'POST', mode: 'no-cors', body: '{}'})", address
            )
        other.shutdown()
    assert answer.value.status == 403
