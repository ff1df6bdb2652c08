"""The report: one file that needs nothing else, right and readable."""

from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from PIL import Image
from tests.conftest import SHIPPED, servable

from servable_trainer.evaluation.evaluate import examine
from servable_trainer.evaluation.report import ReportError, render, write_report

if TYPE_CHECKING:
    from pathlib import Path

    from servable_trainer.data.dataset import Dataset
    from servable_trainer.evaluation.examination import Examination

_VOID = {"meta", "img", "br", "link", "input", "hr"}
# Names of kinds of XML, which nobody fetches.
_NAMESPACES = ("http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink")


class Page(HTMLParser):
    """What is in a page; its elements must be closed in order."""

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
def small(dataset: Dataset) -> Dataset:
    return replace(dataset, test=dataset.test.first(300))


@pytest.fixture(scope="module")
def found(small: Dataset) -> Examination:
    return examine(SHIPPED, small)


def content(uri: str) -> bytes:
    head, _, data = uri.partition(",")
    assert head in ("data:image/png;base64", "data:image/svg+xml;base64")
    return base64.b64decode(data, validate=True)


def test_the_report_shows_what_was_found(
    found: Examination, small: Dataset, tmp_path: Path
) -> None:
    path = tmp_path / "new" / "report.html"
    beside = write_report(path, found, small)
    assert json.loads(beside.read_text()) == json.loads(json.dumps(found.as_dict()))
    assert sorted(path.parent.iterdir()) == [path, beside]  # and nothing half-written
    page = Page(path.read_text(encoding="utf-8"))
    text = page.text.replace("\u00a0", " ")
    assert f"{found.evaluation.accuracy:.2%}".replace("%", " %") in text
    for label in small.labels:
        assert label in text
    assert "Noise, shift and blur" in text
    assert f"{found.latency[0].median_ms:.2f} ms" in text  # type: ignore[index]
    for count in np.unique(found.confusion):
        assert str(count) in text

    pictures = [a for a in page.all("img") if a["src"].startswith("data:image/png")]
    assert len(pictures) == len(found.mistakes)
    for attributes, mistake in zip(pictures, found.mistakes, strict=True):
        shown = np.asarray(Image.open(io.BytesIO(content(attributes["src"]))))
        assert (shown == small.test.images[mistake.index]).all()
        assert mistake.truth in attributes["alt"]
        assert mistake.answer in attributes["alt"]


def test_nothing_is_fetched_from_anywhere(found: Examination, small: Dataset) -> None:
    text = render(found, small)
    page = Page(text)
    assert not re.findall(r"(?i)https?:|url\(|@import|<script|<link|srcset", text)
    for _, attributes in page.elements:
        for name in ("src", "href", "action", "data"):
            assert attributes.get(name, "data:").startswith("data:")
    plots = [a["src"] for a in page.all("img") if a["src"].startswith("data:image/svg")]
    assert len(plots) == 2
    for uri in plots:
        svg = content(uri).decode()
        ET.fromstring(svg)  # well-formed, or a browser shows nothing
        addresses = set(re.findall(r"""https?://[^"'\s<>]+""", svg))
        assert addresses <= set(_NAMESPACES)
        assert all(link.startswith("#") for link in re.findall(r'href="([^"]*)"', svg))
        # It follows the reader's light or dark, and its words can be read aloud and found.
        assert "prefers-color-scheme:dark" in svg
        assert "<text" in svg
    (policy,) = (a for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy["content"].startswith("default-src 'none'")


def test_everybody_can_read_it(found: Examination, small: Dataset) -> None:
    text = render(found, small)
    page = Page(text)
    assert page.all("html")[0]["lang"] == "en"
    assert all(attributes["alt"] for attributes in page.all("img"))
    assert all(attributes.get("scope") for attributes in page.all("th"))
    (viewport,) = (a for a in page.all("meta") if a.get("name") == "viewport")
    assert "width=device-width" in viewport["content"]
    assert "prefers-color-scheme: dark" in text


def test_other_peoples_text_is_only_text(found: Examination, small: Dataset) -> None:
    evil = '"><script>alert(1)</script>{{ 7 * 7 }}'
    spoilt = replace(
        found,
        subject={**found.subject, "what": evil},
        mistakes=[replace(found.mistakes[0], truth=evil)],
    )
    text = render(spoilt, replace(small, labels=(evil, *small.labels[1:])))
    page = Page(text)
    assert not page.all("script")
    assert page.text.count(evil) >= 4  # the title, the heading, the tables
    assert any(evil in attributes["alt"] for attributes in page.all("img"))


def test_colour_no_mistakes_and_nothing_measured(found: Examination, small: Dataset) -> None:
    coloured = np.repeat(small.test.images[..., np.newaxis], 3, axis=3)
    dataset = replace(small, test=replace(small.test, images=coloured))
    page = Page(render(found, dataset))
    shown = next(a for a in page.all("img") if a["src"].startswith("data:image/png"))
    assert Image.open(io.BytesIO(content(shown["src"]))).mode == "RGB"
    bare = Page(render(replace(found, mistakes=[], robustness=None, latency=None), small))
    assert "every test picture was named rightly" in bare.text
    assert "Latency" not in bare.text


def test_a_report_that_cannot_be_written(
    found: Examination, small: Dataset, tmp_path: Path
) -> None:
    (tmp_path / "report.json").mkdir()
    with pytest.raises(ReportError, match="it is a folder"):
        write_report(tmp_path / "report.html", found, small)
    (tmp_path / "file").write_text("")
    with pytest.raises(ReportError, match="cannot write to"):
        write_report(tmp_path / "file" / "report.html", found, small)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "report.json"]


def test_the_command_writes_one(tmp_path: Path) -> None:
    done = servable("evaluate", SHIPPED, "--report", tmp_path / "page.html", "--quick", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads((tmp_path / "page.json").read_text())
    page = Page((tmp_path / "page.html").read_text())
    assert "10,000 test pictures" in page.text
    assert "Latency" not in page.text  # --quick
