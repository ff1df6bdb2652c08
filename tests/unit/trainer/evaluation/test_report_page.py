"""The report as a page: self-contained, accessible, and with the right images."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from PIL import Image
from tests.unit.trainer.evaluation.test_report import DATASET, FOUND, LABELS, TEST

from servable_trainer.evaluation.report import render

if TYPE_CHECKING:
    from servable_trainer.data.dataset import Dataset

_VOID = {"meta", "img", "br", "link", "input", "hr"}
# Names of XML namespaces, which are not fetched.
_NAMESPACES = ("http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink")


class Page(HTMLParser):
    """The elements and the text of a page; elements must be closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    """Test images that differ."""
    images = np.random.default_rng(0).integers(0, 256, TEST.images.shape, np.uint8)
    return replace(DATASET, test=replace(TEST, images=images))


@pytest.fixture(scope="module")
def text(dataset: Dataset) -> str:
    return render(FOUND, dataset)


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def content(uri: str) -> bytes:
    head, _, data = uri.partition(",")
    assert head in ("data:image/png;base64", "data:image/svg+xml;base64")
    return base64.b64decode(data, validate=True)


def sources(page: Page, kind: str) -> list[dict[str, str]]:
    return [a for a in page.all("img") if a["src"].startswith(f"data:image/{kind}")]


def test_mistakes_show_the_image_that_was_misclassified(page: Page, dataset: Dataset) -> None:
    for attributes, mistake in zip(sources(page, "png"), FOUND.mistakes, strict=True):
        shown = np.asarray(Image.open(io.BytesIO(content(attributes["src"]))))
        assert (shown == dataset.test.images[mistake.index]).all()
        assert mistake.truth in attributes["alt"]
        assert mistake.answer in attributes["alt"]


def test_nothing_is_fetched(text: str, page: Page) -> None:
    assert not re.findall(r"(?i)https?:|url\(|@import|<script|<link|srcset", text)
    for _, attributes in page.elements:
        for name in ("src", "href", "action", "data"):
            assert attributes.get(name, "data:").startswith("data:")


def test_plots_fetch_nothing(page: Page) -> None:
    plots = sources(page, "svg")
    assert len(plots) == 2
    for attributes in plots:
        svg = content(attributes["src"]).decode()
        ET.fromstring(svg)  # well-formed, or a browser shows nothing
        addresses = set(re.findall(r"""https?://[^"'\s<>]+""", svg))
        assert addresses <= set(_NAMESPACES)
        assert all(link.startswith("#") for link in re.findall(r'href="([^"]*)"', svg))


def test_a_policy_forbids_what_is_not_there(page: Page) -> None:
    (policy,) = (a for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy["content"].startswith("default-src 'none'")


def test_it_is_accessible(text: str, page: Page) -> None:
    assert page.all("html")[0]["lang"] == "en"
    assert all(attributes["alt"] for attributes in page.all("img"))
    assert all(attributes.get("scope") for attributes in page.all("th"))
    (viewport,) = (a for a in page.all("meta") if a.get("name") == "viewport")
    assert "width=device-width" in viewport["content"]
    assert "prefers-color-scheme: dark" in text


def test_user_input_is_only_text(dataset: Dataset) -> None:
    evil = '"><script>alert(1)</script>{{ 7 * 7 }}'
    spoilt = replace(
        FOUND,
        subject={**FOUND.subject, "what": evil},
        mistakes=[replace(FOUND.mistakes[0], truth=evil)],
    )
    page = Page(render(spoilt, replace(dataset, labels=(evil, *LABELS[1:]))))
    assert not page.all("script")
    assert page.text.count(evil) >= 4  # the title, the heading, the tables
    assert any(evil in attributes["alt"] for attributes in page.all("img"))


def test_images_in_colour_stay_so(dataset: Dataset) -> None:
    coloured = np.repeat(dataset.test.images[..., np.newaxis], 3, axis=3)
    page = Page(render(FOUND, replace(dataset, test=replace(dataset.test, images=coloured))))
    (shown,) = sources(page, "png")
    assert Image.open(io.BytesIO(content(shown["src"]))).mode == "RGB"
