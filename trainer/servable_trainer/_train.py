"""Training: hyperparameters in, a run on disk out."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

import keras

from servable_serving._folder import new_folder
from servable_trainer._model import ImageClassifier, hyperparameters_from, plain
from servable_trainer._progress import EpochLines
from servable_trainer._run import Run, RunError, load_run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from servable_trainer._dataset import Dataset


def train(
    dataset: Dataset,
    *,
    directory: Path,
    hyperparameters: dict[str, Any] | None = None,
    epochs: int = 10,
    seed: int = 0,
    start_from: Path | None = None,
    all_data: bool = False,
) -> Run:
    """Train a network and write the run to `directory`.

    The learning rate falls to nothing along half a cosine (Loshchilov and Hutter 2017,
    https://arxiv.org/abs/1608.03983), one step an epoch.

    Args:
        dataset: Its training part alone is looked at.
        directory: A new folder for the run.
        hyperparameters: A point of `ImageClassifier`'s space; defaults fill what is missing.
        epochs: How often each picture is seen.
        seed: The same seed on one machine gives the same curve.
        start_from: A run whose network to go on with, in place of a new one.
        all_data: Learn from the validation pictures too; nothing is left to validate with.

    Raises:
        FolderError: `directory` exists or cannot be written.
        HyperparameterError: One is unknown, or outside its range.
        RunError: `start_from` is no run, or one for other classes or sizes.
    """
    fit, validation = (dataset.train, None) if all_data else dataset.split(seed=seed)
    size = tuple(map(int, fit.images.shape[1:]))
    classifier = ImageClassifier(size=size, classes=len(dataset.labels))
    before = None
    if start_from is None:
        hp = hyperparameters_from(hyperparameters or {}, classifier)
        keras.utils.set_random_seed(seed)
        model = classifier.build(hp)
        peak = float(hp.get("learning_rate"))
    else:
        before, model = load_run(start_from)
        if (before.size, before.labels) != (size, list(dataset.labels)):
            raise RunError(f"{start_from} is a run for other classes or another size of picture")
        hp = hyperparameters_from(before.hyperparameters, classifier)
        keras.utils.set_random_seed(seed)
        # The weights are nearly where they belong: a full step would throw them out again.
        peak = float(hp.get("learning_rate")) / 10
    # First, so that a folder that cannot be written is known before any training.
    with new_folder(directory) as incoming:
        began = time.monotonic()
        history = classifier.fit(
            hp,
            model,
            fit.images,
            fit.targets,
            validation_data=validation and (validation.images, validation.targets),
            epochs=epochs,
            callbacks=[
                keras.callbacks.LearningRateScheduler(half_cosine(peak, epochs)),
                EpochLines(),
            ],
        )
        run = Run(
            dataset=dataset.name,
            checksums=dataset.checksums,
            labels=list(dataset.labels),
            size=size,
            hyperparameters=plain(hp.values),
            seed=seed,
            epochs=[
                {name: float(values[epoch]) for name, values in history.history.items()}
                for epoch in range(epochs)
            ],
            fitted=len(fit),
            validated=len(validation) if validation else 0,
            seconds=round(time.monotonic() - began, 1),
            started_from={"epochs": before.epochs, "fitted": before.fitted, "seed": before.seed}
            if before
            else None,
        )
        run.save(incoming, model)
    return run


def half_cosine(peak: float, epochs: int) -> Callable[[int], float]:
    """The learning rate of each epoch, from `peak` down to a little above nothing."""
    return lambda epoch: peak * (1 + math.cos(math.pi * epoch / epochs)) / 2
