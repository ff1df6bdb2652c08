"""Recipes, teachers, and pretrained networks."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import keras
import numpy as np
import pytest
from tests.conftest import SHIPPED
from tests.in_process import command

from servable_trainer.evaluation.teacher import teach
from servable_trainer.networks.classifier import ImageClassifier, hyperparameters_from
from servable_trainer.networks.recipes import RECIPES
from servable_trainer.networks.transfer import TransferClassifier, WeightsError
from servable_trainer.training.export_run import export_run
from servable_trainer.training.run import load_run
from servable_trainer.training.train import train

if TYPE_CHECKING:
    from pathlib import Path

    from servable_trainer.data.dataset import Dataset

MOST_PARAMETERS = 1_200_000


@pytest.fixture(scope="module")
def tiny_dataset(dataset: Dataset) -> Dataset:
    return replace(dataset, train=dataset.train.first(600), test=dataset.test.first(100))


def test_an_unknown_recipe(small_data: Dataset, tmp_path: Path) -> None:
    assert small_data.labels
    done = command("train", "--recipe", "nosuch", "--output", tmp_path / "run")
    assert done.returncode == 2
    assert "'nosuch'" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["baseline", "resnet"])
def test_every_recipe_is_a_point_of_the_space(name: str, dataset: Dataset) -> None:
    chosen = RECIPES[name]
    classifier = chosen.classifier(dataset)
    network = classifier.network(hyperparameters_from(chosen.hyperparameters, classifier))
    assert network.count_params() <= MOST_PARAMETERS
    assert network.output_shape == (None, 10)


def test_what_is_augmented_is_not_exported(dataset: Dataset) -> None:
    classifier = ImageClassifier(size=(28, 28), classes=10)
    hp = hyperparameters_from(
        {"flip": True, "shift": 2, "erasing": 0.5, "cutout": 0.5, "dropout": 0.5}, classifier
    )
    learning, network = classifier.network(hp, learning=True), classifier.network(hp)
    network.set_weights(learning.get_weights())
    images = dataset.test.images[:32]
    np.testing.assert_array_equal(network(images), learning(images, training=False))
    assert not np.allclose(learning(images, training=True), learning(images, training=True))
    kinds = {type(layer) for layer in network.layers}
    assert not kinds & {keras.layers.RandomFlip, keras.layers.RandomTranslation}
    assert keras.layers.RandomErasing not in kinds


def test_a_shift_moves_whole_pixels_and_no_further_than_said() -> None:
    classifier = ImageClassifier(size=(28, 28), classes=10)
    hp = hyperparameters_from({"flip": False, "shift": 2}, classifier)
    learning = classifier.network(hp, learning=True)
    shift = next(x for x in learning.layers if isinstance(x, keras.layers.RandomTranslation))
    picture = np.zeros((1, 28, 28, 1), np.float32)
    picture[0, 14, 14] = 1
    places = set()
    for _ in range(200):
        (place,) = np.argwhere(np.asarray(shift(picture, training=True))[0, :, :, 0] == 1)
        places.add((int(place[0]) - 14, int(place[1]) - 14))
    assert {y for y, _ in places} == {x for _, x in places} == {-2, -1, 0, 1, 2}


def test_a_teacher_contributes_to_the_targets(tiny_dataset: Dataset, tmp_path: Path) -> None:
    """A network with random labels learns from its teacher."""
    answers = teach(SHIPPED, tiny_dataset)
    assert answers.shape == (600, 10)
    assert (answers.argmax(axis=1) == tiny_dataset.train.targets).mean() > 0.85
    shuffled = np.random.default_rng(0).permutation(tiny_dataset.train.targets)
    wrong = replace(tiny_dataset, train=replace(tiny_dataset.train, targets=shuffled))
    point = {"kind": "plain", "width": 16, "stages": 2, "dense_units": 64, "batch_size": 64}
    run = tmp_path / "run"
    train(wrong, directory=run, hyperparameters=point, epochs=8, teacher=answers, all_data=True)
    _, pupil = load_run(run)
    found = pupil.predict(tiny_dataset.test.images, verbose=0).argmax(axis=1)
    assert (found == tiny_dataset.test.targets).mean() > 0.4


def test_mobilenet_takes_weights_and_is_exported(
    tiny_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The smallest that MobileNet takes: a ninth of the work.
    monkeypatch.setattr("servable_trainer.networks.transfer._SIDE", 32)
    known = keras.applications.MobileNetV3Small(
        input_shape=(32, 32, 3), include_top=False, include_preprocessing=False,
        pooling="avg", weights=None,
    )  # fmt: skip
    path = tmp_path / "known.weights.h5"
    known.save_weights(path)
    classifier = TransferClassifier(size=(28, 28), classes=10, weights=str(path))
    network = classifier.network(hyperparameters_from({}, classifier))
    for mine, theirs in zip(network.get_weights(), known.get_weights(), strict=False):
        np.testing.assert_array_equal(mine, theirs)

    train(
        replace(tiny_dataset, train=tiny_dataset.train.first(64)),
        directory=tmp_path / "run", recipe="mobilenet", weights=str(path), epochs=1,
    )  # fmt: skip
    manifest = export_run(tmp_path / "run", tmp_path / "candidate", tiny_dataset, name="mobile")
    assert manifest["hyperparameters"]["dropout"] == 0.2


@pytest.mark.parametrize("content", [None, b"not weights"])
def test_invalid_weights(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "some.weights.h5"
    if content is not None:
        path.write_bytes(content)
    classifier = TransferClassifier(size=(28, 28), classes=10, weights=str(path))
    with pytest.raises(WeightsError, match=path.name):
        classifier.network(hyperparameters_from({}, classifier))
