"""The form for the inputs of models that are not image classifiers."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tests.conftest import NAME, SHIPPED, serving
from tests.functional.serving.calls import config_of
from tests.system.web.conftest import PHONE, answered, trouble, visit

from servable_client import Client

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Page
    from tests.conftest import RunningServer


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server of the shipped model, and of one that takes rows of numbers and a text."""
    import tensorflow as tf

    class Rows(tf.Module):
        @tf.function(
            input_signature=[
                tf.TensorSpec([None, 3], tf.float32, name="numbers"),
                tf.TensorSpec([None], tf.string, name="text"),
            ]
        )
        def __call__(self, numbers: tf.Tensor, text: tf.Tensor) -> dict[str, tf.Tensor]:
            tf.debugging.assert_non_negative(numbers, "numbers must not be negative")
            return {
                "total": tf.reduce_sum(numbers, axis=1),
                "upper": tf.strings.upper(text),
                "twice": numbers * 2,
            }

        @tf.function(input_signature=[tf.TensorSpec([], tf.int32, name="n")])
        def count(self, n: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"numbers": tf.range(n)}

    folder = tmp_path_factory.mktemp("both")
    rows = Rows()
    signatures = {"serving_default": rows.__call__, "count": rows.count}
    tf.saved_model.save(rows, folder / "rows" / "1", signatures=signatures)
    config = folder / "models.config"
    config.write_text(config_of({NAME: SHIPPED.parent, "rows": folder / "rows"}))
    with serving(None, folder / "log", "--web", f"--model_config_file={config}") as running:
        yield running


@pytest.fixture
def form(page: Page, both: RunningServer) -> Page:
    visit(page, f"{both.http}/?model=rows")
    page.get_by_role("button", name="Predict").wait_for()
    return page


def predict(page: Page) -> None:
    with page.expect_response(lambda reply: reply.url.endswith(":predict")):
        page.get_by_role("button", name="Predict").click()


def output(page: Page, name: str) -> Any:
    return json.loads(page.get_by_role("region", name=f"Output {name}").inner_text())


def test_an_example_is_there_to_be_sent(form: Page) -> None:
    assert not form.get_by_role("heading", name="Choose an image").is_visible()
    assert form.get_by_text("float [any, 3]").first.is_visible()
    predict(form)
    form.get_by_text("Version 1, ").wait_for()
    assert output(form, "total") == [0]
    assert output(form, "upper") == ["TEXT"]
    assert output(form, "twice") == [[0, 0, 0]]


def test_what_is_typed_is_asked_and_can_be_copied(form: Page, both: RunningServer) -> None:
    form.locator("#tensor-0").fill("1, 2, 3.5\n4 5 6")
    form.locator("#tensor-1").fill('so "good"\nit\'s bad')
    predict(form)
    form.get_by_role("region", name="Output upper").get_by_text("GOOD").wait_for()
    with Client(both.grpc, model="rows") as client:
        numbers = np.array([[1, 2, 3.5], [4, 5, 6]], np.float32)
        answer = client.predict({"numbers": numbers, "text": ['so "good"', "it's bad"]})
    np.testing.assert_allclose(output(form, "total"), answer["total"])
    np.testing.assert_allclose(output(form, "twice"), answer["twice"])
    assert output(form, "upper") == [text.decode() for text in answer["upper"].tolist()]
    asked = subprocess.run(
        form.locator("#curl").inner_text(), shell=True, capture_output=True, text=True, check=True
    )
    assert json.loads(asked.stdout)["outputs"]["total"] == output(form, "total")
    form.get_by_role("tab", name="Python").click()
    ran = subprocess.run(
        [sys.executable, "-c", form.locator("#python").inner_text()],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "SO" in ran.stdout


def test_another_signature_of_a_scalar(form: Page) -> None:
    form.get_by_role("combobox", name="Signature").select_option("count")
    form.locator("#tensor-0").fill("4")
    predict(form)
    form.get_by_text("[0,1,2,3]").wait_for()
    # What was typed for the other one is kept.
    form.get_by_role("combobox", name="Signature").select_option("serving_default")
    form.locator("#tensor-0").fill("7,7,7")
    form.get_by_role("combobox", name="Signature").select_option("count")
    assert form.locator("#tensor-0").input_value() == "4"
    form.get_by_role("combobox", name="Signature").select_option("serving_default")
    assert form.locator("#tensor-0").input_value() == "7,7,7"


def test_what_is_not_valid_is_named(form: Page) -> None:
    numbers = form.locator("#tensor-0")
    numbers.fill("[[1, 2]]")
    form.get_by_role("button", name="Predict").click()
    trouble(form, "input")
    assert form.get_by_text("numbers has 2 where it must have 3.").is_visible()
    assert numbers.get_attribute("aria-invalid") == "true"
    numbers.fill("[[-1, 2, 3]]")
    predict(form)
    form.get_by_text("numbers must not be negative").wait_for()
    assert form.get_by_text("Change the inputs.").is_visible()
    numbers.fill("[[1, 2, 3]]")
    predict(form)
    form.locator("#trouble").wait_for(state="hidden")
    assert output(form, "total") == [6]


def test_the_model_may_be_changed(form: Page) -> None:
    model = form.locator("#model")
    model.fill(NAME)
    model.press("Enter")
    answered(form, "ankle-boot-0.png")
    assert not form.get_by_role("button", name="Predict").is_visible()
    model.fill("rows")
    model.press("Enter")
    form.get_by_role("button", name="Predict").wait_for()
    assert not form.get_by_role("heading", name="Choose an image").is_visible()
    assert form.locator("#trouble").is_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_and_a_phone_shows_all(form: Page, scheme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    form.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    predict(form)
    form.get_by_text("Version 1, ").wait_for()
    form.set_viewport_size(PHONE)
    assert form.evaluate("() => document.documentElement.scrollWidth") == PHONE["width"]
    found = Axe().run(form)
    assert found.violations_count == 0, found.generate_report()
