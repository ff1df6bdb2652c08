"""A signature as people read it."""

from __future__ import annotations

import pytest

from servable_client import InvalidInput
from servable_client.engine.core import signature_in
from servable_client.types.answers import Signature, Signatures, TensorSpec

SIGNATURE = Signature(
    inputs={"image": TensorSpec(dtype="DT_UINT8", shape=(-1, 28, 28))},
    outputs={
        "score": TensorSpec(dtype="DT_FLOAT", shape=(-1, -1)),
        "<b>": TensorSpec(dtype="DT_STRING", shape=None),
        "one": TensorSpec(dtype="DT_HALF", shape=()),
    },
    method="tensorflow/serving/predict",
)


def test_it_prints_as_a_table() -> None:
    assert str(SIGNATURE).splitlines() == [
        "input   image  uint8    [N, 28, 28]",
        "output  <b>    string   any shape",
        "output  one    float16  []",
        "output  score  float32  [N, ?]",
    ]
    assert str(Signature(inputs={}, outputs={}, method="")) == ""


def test_a_notebook_shows_a_table() -> None:
    html = SIGNATURE._repr_html_()
    assert html.count("<tr>") == 5
    assert "&lt;b&gt;" in html
    assert "<b>" not in html


def test_a_notebook_shows_all_signatures_as_one_table() -> None:
    html = Signatures({"a": SIGNATURE, "<i>": SIGNATURE})._repr_html_()
    assert html.count("<table>") == 1
    assert html.count("<tr>") == 9
    assert "&lt;i&gt;" in html


def test_an_unknown_signature_is_refused_with_the_known_ones() -> None:
    assert signature_in({"score": SIGNATURE}, "score") is SIGNATURE
    with pytest.raises(InvalidInput) as caught:
        signature_in({"score": SIGNATURE}, "serving_default")
    assert "score" in (caught.value.hint or "")
