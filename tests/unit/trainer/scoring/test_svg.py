"""Figures as SVG."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import matplotlib as mpl
import pytest
from matplotlib.figure import Figure

from servable_trainer.scoring.svg import ACCENT, STYLE, to_svg


@pytest.fixture
def svg() -> str:
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2, 2))
        figure.subplots().plot([0, 1], [0, 1], color=ACCENT, label="x")
        figure.text(0.5, 0.5, "a label")
        return to_svg(figure)


def test_it_is_one_well_formed_element(svg: str) -> None:
    assert ET.fromstring(svg).tag.endswith("svg")


def test_placeholder_colours_become_variables(svg: str) -> None:
    assert "var(--accent)" in svg
    assert ACCENT not in svg


def test_light_and_dark_have_values(svg: str) -> None:
    assert svg.count("--accent:") == 2
    assert "prefers-color-scheme:dark" in svg


def test_text_stays_text(svg: str) -> None:
    assert "a label</text>" in svg


def test_no_metadata_and_no_document_type(svg: str) -> None:
    assert "<metadata" not in svg
    assert "DOCTYPE" not in svg
