"""One browser and one server for all tests of the page."""

from __future__ import annotations

import json
import shutil
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tests.conftest import NAME, SHIPPED, serving
from tests.functional.serving.calls import config_of
from tests.system.web.photos import as_png

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from playwright.sync_api import Browser, BrowserContext, Page, Request, ViewportSize
    from tests.conftest import RunningServer

    from servable_trainer.data.dataset import Dataset

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--renderer-process-limit=1",
]  # fmt: skip
# A guard against hangs, in milliseconds.
TIMEOUT = 120_000
DESK: ViewportSize = {"width": 1200, "height": 900}
PHONE: ViewportSize = {"width": 360, "height": 640}


HERE = Path(__file__).parent
# A model that takes light images as they are.
AS_IT_IS = "as_it_is"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.browser)
            if CHROMIUM is None:
                item.add_marker(pytest.mark.skip(reason="Chromium is not installed"))


@dataclass(frozen=True)
class Garment:
    """An image of the test set."""

    pixels: NDArray[np.uint8]
    label: str
    index: int

    @property
    def name(self) -> str:
        return f"image-{self.index}.png"

    @property
    def png(self) -> bytes:
        return as_png(self.pixels)


@pytest.fixture(scope="session")
def garments(dataset: Dataset) -> list[Garment]:
    """Ten images of the test set, one of each class.

    None of the page's own, and each with a class that is obvious: the tests are of the page and not
    of the model.
    """
    numbers = (85, 64, 77, 100, 130, 37, 101, 61, 58, 178)
    found = [
        Garment(dataset.test.images[i], dataset.labels[dataset.test.targets[i]], i) for i in numbers
    ]
    assert {garment.label for garment in found} == set(dataset.labels)
    return found


@pytest.fixture(scope="session")
def two_versions(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model repository: the shipped model, and one that compares with the mean of each class."""
    root = tmp_path_factory.mktemp("repository")
    shutil.copytree(SHIPPED, root / NAME / "1")
    save_means(dataset, root / NAME / "2")
    save_means(dataset, root / AS_IT_IS / "1", invert=False)
    return root


def save_means(dataset: Dataset, target: Path, *, invert: bool = True) -> None:
    """A small classifier with the signatures of the model contract; a third of it is wrong."""
    import tensorflow as tf

    from servable_serving.exporter.classifier import Classifier
    from servable_serving.exporter.contract_model import mark_classify

    images, targets = dataset.train.images, dataset.train.targets
    means = np.stack([images[targets == i].mean(axis=0) for i in range(len(dataset.labels))])
    means = tf.constant(means.reshape(len(means), -1) / 255, tf.float32)

    def probabilities(image: tf.Tensor) -> tf.Tensor:
        flat = tf.reshape(tf.cast(image, tf.float32) / 255, [-1, means.shape[1]])
        distance = tf.reduce_sum((flat[:, None] - means[None]) ** 2, axis=2)
        return tf.nn.softmax(-distance / 10)

    model = Classifier(probabilities, labels=dataset.labels, shape=(28, 28), invert=invert)
    tf.saved_model.save(tf.Module(), str(target), signatures=model.signatures())
    mark_classify(target)


@pytest.fixture(scope="session")
def stand(two_versions: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server of both versions, labelled stable and canary, with the page."""
    folder = tmp_path_factory.mktemp("stand")
    config = folder / "models.config"
    models = {name: two_versions / name for name in (NAME, AS_IT_IS)}
    config.write_text(config_of(models, labels={"stable": 1, "canary": 2}))
    with serving(
        None,
        folder / "log",
        "--web",
        f"--model_config_file={config}",
        "--allow_version_labels_for_unavailable_models",
    ) as running:
        yield running


class Chromium:
    """A browser whose camera shows a film; it is started when it is first needed.

    It is closed after the last test of the folder: while it runs, its event loop counts as the
    running one of the thread, and asyncio accepts no second one.
    """

    def __init__(self, film: Path) -> None:
        self._film = film
        self._opened = ExitStack()
        self._browser: Browser | None = None

    def browser(self) -> Browser:
        if self._browser is None:
            from playwright.sync_api import sync_playwright

            camera = [
                "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
                f"--use-file-for-fake-video-capture={self._film}",
            ]  # fmt: skip
            playwright = self._opened.enter_context(sync_playwright())
            self._browser = playwright.chromium.launch(
                executable_path=CHROMIUM, args=[*FLAGS, *camera]
            )
            self._opened.callback(self._browser.close)
        return self._browser

    def close(self) -> None:
        self._browser = None
        self._opened.close()


CHROMIUMS = pytest.StashKey[Chromium]()


@pytest.fixture(scope="session")
def chromium(
    request: pytest.FixtureRequest,
    garments: list[Garment],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Chromium]:
    film = tmp_path_factory.mktemp("film") / "garments.y4m"
    film.write_bytes(filmed(garments))
    chromium = Chromium(film)
    request.config.stash[CHROMIUMS] = chromium
    yield chromium
    chromium.close()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    chromium = item.config.stash.get(CHROMIUMS, None)
    if chromium and not (nextitem and nextitem.path.is_relative_to(HERE)):
        chromium.close()


def filmed(garments: list[Garment]) -> bytes:
    """A film of 4 frames a second, 640 x 480 in YUV4MPEG2.

    The last garment has two frames: with eleven, sampling at a fixed interval reaches all of them.
    """
    frames = [b"YUV4MPEG2 W640 H480 F4:1 Ip A1:1 C420jpeg\n"]
    for garment in [*garments, garments[-1]]:
        luma = np.full((480, 640), 16, np.uint8)  # black; 235 is white
        grown = np.kron(garment.pixels, np.ones((16, 16), np.uint8))
        luma[16:464, 96:544] = np.round(16 + grown / 255 * 219)
        grey = np.full(2 * 240 * 320, 128, np.uint8)
        frames.append(b"FRAME\n" + luma.tobytes() + grey.tobytes())
    return b"".join(frames)


@pytest.fixture
def context(chromium: Chromium) -> Iterator[BrowserContext]:
    """A browser context without state of other tests."""
    context = chromium.browser().new_context(viewport=DESK, reduced_motion="reduce")
    context.set_default_timeout(TIMEOUT)
    context.grant_permissions(["clipboard-read", "clipboard-write", "camera"])
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    """An empty page; an uncaught error or a violation of its policy fails the test."""
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on(
        "console",
        lambda line: errors.append(line.text) if "Security Policy" in line.text else None,
    )
    yield page
    assert not errors


@pytest.fixture
def open_page(page: Page, stand: RunningServer) -> Page:
    """The page of that server, with the answer for its first image."""
    visit(page, stand.http)
    answered(page, "ankle-boot-0.png")
    return page


def visit(page: Page, address: str) -> None:
    """Open a page, again if the network of the machine changed while it loaded.

    Chromium then drops every request in flight, those to 127.0.0.1 too, and a page without one of
    its modules does not start. Docker changes the network whenever it creates or removes one.
    """
    from playwright.sync_api import Error

    dropped: list[str] = []

    def failed(request: Request) -> None:
        if request.failure == "net::ERR_NETWORK_CHANGED":
            dropped.append(request.url)

    page.on("requestfailed", failed)
    loaded = again = False
    while not loaded:
        dropped.clear()
        try:
            page.goto(address)
        except Error:
            # The browser's own page about what was dropped may come late, and end the next visit.
            if not (dropped or again):
                raise
            again = bool(dropped)
            continue
        loaded = not dropped
        again = not loaded
    page.remove_listener("requestfailed", failed)


def answered(page: Page, image: str) -> str:
    """The label that the page shows for an image, once it does."""
    page.locator(f"#answers[data-image={json.dumps(image)}]").wait_for()
    return label(page)


def label(page: Page) -> str:
    return page.locator("#answer .verdict strong").inner_text()


def shows(page: Page, text: str) -> None:
    """Wait for a label: answers to what was drawn before may come first."""
    from playwright.sync_api import expect

    expect(page.locator("#answer .verdict strong")).to_have_text(text, timeout=60_000)


@contextmanager
def next_answer(page: Page) -> Iterator[None]:
    """Wait for an answer to what is done in the block."""
    answers = page.locator("#answers")
    before = answers.get_attribute("data-count")
    yield
    page.locator(f"#answers:not([data-count={json.dumps(before)}])").wait_for()


def trouble(page: Page, kind: str) -> str:
    """The failure of a kind that the page shows, once it does."""
    box = page.locator(f"#trouble[data-kind={kind}]")
    box.wait_for()
    return box.inner_text()


def payload(name: str, content: bytes, kind: str = "image/png") -> Any:
    """A file for `set_input_files`."""
    return {"name": name, "mimeType": kind, "buffer": content}
