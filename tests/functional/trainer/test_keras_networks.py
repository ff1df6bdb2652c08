"""Hyperparameters, recipes, schedules and batches. All of this is Keras'."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from servable_trainer.data.dataset import Dataset, Pictures
from servable_trainer.networks import precision
from servable_trainer.networks.batches import Batches, one_hot, whole
from servable_trainer.networks.classifier import (
    HyperparameterError,
    ImageClassifier,
    hyperparameters_from,
    plain,
    space_of,
)
from servable_trainer.networks.optimizer import Schedule, Training, training_from
from servable_trainer.networks.recipes import RECIPES, RecipeError, recipe

CLASSIFIER = ImageClassifier(size=(8, 8), classes=3)


def training(**changes: Any) -> Training:
    values: dict[str, Any] = {
        "name": "adamw",
        "learning_rate": 0.01,
        "weight_decay": 0.1,
        "schedule": "cosine",
        "batch_size": 4,
        "label_smoothing": 0.0,
        "ema": 0.0,
        "mixup": 0.0,
    }
    return Training(**{**values, **changes})


def images(count: int = 10) -> Pictures:
    pixels = np.arange(count, dtype=np.uint8)[:, None, None] * np.ones((1, 2, 2), np.uint8)
    return Pictures(images=pixels, targets=np.arange(count) % 3)


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("width", "abc", "[8, 16, 24, 32, 48, 64]"),
        ("flip", 1, "true or false"),
        ("kernel_size", -1, "[3, 5]"),
        ("kernel_size", True, "[3, 5]"),
        ("blocks", 9, "1 to 3"),
        ("blocks", 1.5, "1 to 3"),
        ("dropout", 7, "0.0 to 0.5"),
        ("learning_rate", "x", "0.0005 to 0.02"),
    ],
)
def test_invalid_hyperparameters_name_what_is_allowed(
    name: str, value: object, allowed: str
) -> None:
    with pytest.raises(HyperparameterError, match=name) as caught:
        hyperparameters_from({name: value}, CLASSIFIER)
    assert allowed in str(caught.value)


def test_an_unknown_hyperparameter_lists_the_known_ones() -> None:
    with pytest.raises(HyperparameterError, match="nosuch") as caught:
        hyperparameters_from({"nosuch": 1}, CLASSIFIER)
    assert "kernel_size" in str(caught.value.hint)


def test_what_is_not_given_takes_its_default() -> None:
    values = hyperparameters_from({"width": 16}, CLASSIFIER).values
    assert (values["width"], values["kernel_size"], values["optimizer"]) == (16, 3, "adamw")


def test_an_integer_is_a_valid_float() -> None:
    assert hyperparameters_from({"dropout": 0}, CLASSIFIER).values["dropout"] == 0


def test_the_space_has_network_training_and_augmentation() -> None:
    names = {one.name for one in space_of(CLASSIFIER).space}
    assert {"kind", "width", "learning_rate", "mixup", "flip", "cutout"} <= names


def test_numpy_scalars_become_plain() -> None:
    values = plain({"a": np.float64(0.5), "b": np.int64(3), "c": "x"})
    assert [type(value) for value in values.values()] == [float, int, str]


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_recipes_are_found_by_name(name: str) -> None:
    assert recipe(name) is RECIPES[name]


def test_an_unknown_recipe_lists_the_known_ones() -> None:
    with pytest.raises(RecipeError, match="nosuch") as caught:
        recipe("nosuch")
    assert all(name in str(caught.value.hint) for name in RECIPES)


@pytest.mark.parametrize("name", ["baseline", "resnet"])
def test_recipes_are_points_of_the_space(name: str) -> None:
    hp = hyperparameters_from(RECIPES[name].hyperparameters, CLASSIFIER)
    assert training_from(hp).learning_rate == RECIPES[name].hyperparameters["learning_rate"]


@pytest.mark.parametrize("shape", [(8, 8), (8, 6, 3)])
def test_a_recipe_takes_size_and_classes_from_the_data(shape: tuple[int, ...]) -> None:
    some = Pictures(images=np.zeros((3, *shape), np.uint8), targets=np.arange(3))
    data = Dataset(name="n", labels=("a", "b", "c"), train=some, test=some, checksums={})
    classifier = RECIPES["baseline"].classifier(data)
    assert (classifier.size, classifier.classes) == (shape, 3)


def rate(kind: str, step: int) -> float:
    return float(Schedule(0.1, steps=100, kind=kind)(step))


@pytest.mark.parametrize(
    ("kind", "step", "expected"),
    [
        ("cosine", 0, 0.1),
        ("cosine", 50, 0.05),
        ("cosine", 100, 0.0),
        ("cosine", 500, 0.0),
        ("one_cycle", 0, 0.004),
        ("one_cycle", 10, 0.052),
        ("one_cycle", 20, 0.1),
        ("one_cycle", 60, 0.05),
        ("one_cycle", 100, 0.0),
    ],
)
def test_the_learning_rate_of_a_step(kind: str, step: int, expected: float) -> None:
    assert rate(kind, step) == pytest.approx(expected, abs=1e-6)


def test_a_schedule_is_rebuilt_from_its_config() -> None:
    schedule = Schedule(0.1, steps=100, kind="cosine")
    again = Schedule(**schedule.get_config())
    assert float(again(30)) == float(schedule(30))


@pytest.mark.parametrize(
    ("name", "kind", "peak"),
    [("adamw", "AdamW", 0.01), ("sgd", "SGD", 0.5), ("muon", "Muon", 0.01)],
)
def test_the_optimizer_and_its_peak_rate(name: str, kind: str, peak: float) -> None:
    optimizer = training(name=name).optimizer(10)
    assert type(optimizer).__name__ == kind
    assert float(optimizer.learning_rate) == pytest.approx(peak)


def test_sgd_decays_a_fiftieth() -> None:
    assert training(name="sgd").optimizer(10).weight_decay == pytest.approx(0.1 / 50)


@pytest.mark.parametrize("ema", [0.0, 0.999])
def test_the_moving_average(ema: float) -> None:
    assert training(ema=ema).optimizer(10).use_ema is bool(ema)


def order(batches: Batches) -> list[int]:
    return [int(i) for n in range(len(batches)) for i in batches[n][0][:, 0, 0]]


def test_batches_leave_out_the_odd_images() -> None:
    batches = Batches(images(10), training(batch_size=4), classes=3, seed=0)
    assert (len(batches), len(set(order(batches)))) == (2, 8)


def test_a_batch_is_no_larger_than_the_data() -> None:
    assert len(Batches(images(3), training(batch_size=64), classes=3, seed=0)) == 1


def test_the_order_depends_on_the_seed_and_the_epoch() -> None:
    first = Batches(images(), training(), classes=3, seed=1)
    assert order(first) == order(Batches(images(), training(), classes=3, seed=1))
    assert order(first) != order(Batches(images(), training(), classes=3, seed=2))
    before = order(first)
    first.on_epoch_end()
    assert order(first) != before


def test_a_resumed_epoch_has_the_order_that_it_would_have_had() -> None:
    whole_run = Batches(images(), training(), classes=3, seed=1)
    whole_run.on_epoch_end()
    resumed = Batches(images(), training(), classes=3, seed=1, first_epoch=1)
    assert order(resumed) == order(whole_run)


def test_mixup_mixes_images_and_targets_by_the_same_share() -> None:
    data = Pictures(images=np.full((2, 1, 1), 0, np.uint8), targets=np.array([0, 1]))
    data.images[1] = 200
    pixels, targets = Batches(data, training(mixup=0.4), classes=2, seed=3)[0]
    assert targets.sum(axis=1) == pytest.approx([1, 1])
    assert pixels.ravel() == pytest.approx(targets[:, 1] * 200, abs=1)


def test_given_targets_replace_the_classes() -> None:
    soft = np.full((10, 3), 1 / 3, np.float32)
    _, targets = Batches(images(), training(), classes=3, seed=0, targets=soft)[0]
    assert (targets == soft[:4]).all()


def test_one_hot_targets() -> None:
    assert one_hot(np.array([2, 0]), 3).tolist() == [[0, 0, 1], [1, 0, 0]]


def test_all_images_to_validate_on() -> None:
    pixels, targets = whole(images(4), 3)
    assert len(pixels) == 4
    assert targets.argmax(axis=1).tolist() == [0, 1, 2, 0]


@pytest.mark.parametrize(
    ("flags", "policy"),
    [({"fma"}, "float32"), ({"avx512_bf16"}, "mixed_bfloat16"), ({"amx_bf16"}, "mixed_bfloat16")],
)
def test_the_automatic_precision(
    monkeypatch: pytest.MonkeyPatch, flags: set[str], policy: str
) -> None:
    monkeypatch.setattr(precision, "processor_flags", lambda: flags)
    assert precision.policy_name("auto") == policy
    assert precision.policy_name("float32") == "float32"
