"""The signatures of an image classifier, and what breaks its callers."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest

from servable_serving.model.contract import (
    check_compatible,
    check_contract,
    check_signatures,
    shape_fits,
)
from servable_serving.repository.manifest import CandidateError

if TYPE_CHECKING:
    from collections.abc import Callable

ANSWERS = {
    "probabilities": {"dtype": "DT_FLOAT", "shape": [-1, 10]},
    "class_id": {"dtype": "DT_INT64", "shape": [-1]},
    "label": {"dtype": "DT_STRING", "shape": [-1]},
}
CONTRACT: dict[str, Any] = {
    "serving_default": {
        "method": "tensorflow/serving/predict",
        "inputs": {"image": {"dtype": "DT_UINT8", "shape": [-1, 28, 28]}},
        "outputs": ANSWERS,
    },
    "serving_bytes": {
        "method": "tensorflow/serving/predict",
        "inputs": {"image_bytes": {"dtype": "DT_STRING", "shape": [-1]}},
        "outputs": ANSWERS,
    },
    "classify": {
        "method": "tensorflow/serving/classify",
        "inputs": {"inputs": {"dtype": "DT_STRING", "shape": [-1]}},
        "outputs": {
            "classes": {"dtype": "DT_STRING", "shape": [-1, 10]},
            "scores": {"dtype": "DT_FLOAT", "shape": [-1, 10]},
        },
    },
}


def changed(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    contract = copy.deepcopy(CONTRACT)
    change(contract)
    return contract


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c,
        lambda c: c.pop("classify"),
        lambda c: c.pop("serving_bytes"),
        lambda c: c.update(other={"method": "x", "inputs": {}, "outputs": {}}),
        lambda c: c["serving_default"]["inputs"]["image"].update(shape=[-1, 32, 24]),
        lambda c: c["serving_default"]["inputs"]["image"].update(shape=[-1, 32, 24, 3]),
        lambda c: c["serving_default"]["outputs"]["label"].update(shape=None),
        lambda c: c["serving_default"]["outputs"]["probabilities"].update(shape=[-1, -1]),
        lambda c: c["serving_default"]["outputs"].update(more={"dtype": "DT_FLOAT", "shape": []}),
    ],
)
def test_what_follows_the_contract(change: Callable[[dict[str, Any]], object]) -> None:
    check_contract(changed(change), 10)


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.pop("serving_default"),
        lambda c: c["serving_default"].update(method="tensorflow/serving/classify"),
        lambda c: c["serving_default"].update(inputs={}),
        lambda c: c["serving_default"]["inputs"].update(more={"dtype": "DT_FLOAT", "shape": []}),
        lambda c: c["serving_default"]["inputs"]["image"].update(dtype="DT_FLOAT"),
        lambda c: c["serving_default"]["inputs"]["image"].update(shape=None),
        lambda c: c["serving_default"]["inputs"]["image"].update(shape=[1, 28, 28]),
        lambda c: c["serving_default"]["inputs"]["image"].update(shape=[-1, 28, -1]),
        lambda c: c["serving_default"]["inputs"]["image"].update(shape=[-1, 28, 28, 4]),
        lambda c: c["serving_default"].update(outputs={"label": ANSWERS["label"]}),
        lambda c: c["serving_default"]["outputs"]["label"].update(dtype="DT_INT64"),
        lambda c: c["serving_default"]["outputs"]["label"].update(shape=[-1, 1]),
        lambda c: c["serving_default"]["outputs"]["probabilities"].update(shape=[-1, 3]),
        lambda c: c["serving_bytes"]["inputs"]["image_bytes"].update(dtype="DT_UINT8"),
        lambda c: c["classify"].update(method="tensorflow/serving/predict"),
        lambda c: c["classify"]["outputs"].pop("scores"),
    ],
)
def test_what_breaks_the_contract(change: Callable[[dict[str, Any]], object]) -> None:
    with pytest.raises(CandidateError):
        check_contract(changed(change), 10)


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c,
        lambda c: c.update(other={"method": "x", "inputs": {}, "outputs": {}}),
        lambda c: c["classify"]["outputs"].update(more={"dtype": "DT_FLOAT", "shape": []}),
        lambda c: c["classify"]["outputs"]["scores"].update(shape=None),
        lambda c: c["classify"]["outputs"]["scores"].update(shape=[-1, 12]),
        lambda c: c["serving_default"]["inputs"]["image"].update(shape=[-1, -1, 28]),
        lambda c: c["serving_default"]["inputs"]["image"].update(shape=None),
    ],
)
def test_what_the_callers_of_the_served_version_do_not_notice(
    change: Callable[[dict[str, Any]], object],
) -> None:
    check_compatible(changed(change), CONTRACT)


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.pop("classify"),
        lambda c: c["classify"]["outputs"].pop("scores"),
        lambda c: c["classify"]["outputs"]["scores"].update(dtype="DT_DOUBLE"),
        lambda c: c["classify"]["outputs"]["scores"].update(shape=[-1]),
        lambda c: c["serving_default"]["inputs"]["image"].update(shape=[-1, 32, 32]),
        lambda c: c["serving_default"]["inputs"]["image"].update(shape=[-1, 28, 28, 1]),
        lambda c: c["serving_default"]["inputs"]["image"].update(dtype="DT_FLOAT"),
        lambda c: c["serving_default"]["inputs"].update(more={"dtype": "DT_FLOAT", "shape": []}),
        lambda c: c["serving_default"]["inputs"].pop("image"),
    ],
)
def test_what_breaks_the_callers_of_the_served_version(
    change: Callable[[dict[str, Any]], object],
) -> None:
    with pytest.raises(CandidateError):
        check_compatible(changed(change), CONTRACT)


def test_a_model_of_any_kind_needs_a_signature_that_gives_something() -> None:
    check_signatures(CONTRACT)
    check_signatures({"f": {"method": "", "inputs": {}, "outputs": ANSWERS}})
    with pytest.raises(CandidateError, match="no signature"):
        check_signatures({})
    with pytest.raises(CandidateError, match="gives nothing"):
        check_signatures({**CONTRACT, "train": {"method": "", "inputs": {}, "outputs": {}}})


@pytest.mark.parametrize(
    ("shape", "declared", "fits"),
    [
        ([2, 3], [-1, 3], True), ([2, 3], None, True), ([], [], True), ([0, 3], [-1, 3], True),
        ([2, 4], [-1, 3], False), ([2], [-1, 3], False), ([2, 3, 1], [-1, 3], False),
    ],
)  # fmt: skip
def test_the_shape_of_an_answer_is_as_declared(
    shape: list[int], declared: list[int] | None, fits: bool
) -> None:
    assert shape_fits(shape, declared) is fits
