"""Training: hyperparameters in, a run on disk out."""

from __future__ import annotations

import hashlib
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from servable_client.cli.console import say
from servable_serving.core.files import new_folder
from servable_trainer.data.dataset import VALIDATION_SHARE
from servable_trainer.networks.batches import Batches, one_hot, whole
from servable_trainer.networks.classifier import hyperparameters_from, plain
from servable_trainer.networks.format_version import code_digest
from servable_trainer.networks.optimizer import training_from
from servable_trainer.networks.precision import dtype_policy, policy_name, spread
from servable_trainer.networks.recipes import recipe as recipe_of
from servable_trainer.training.calibration import cool, find_temperature
from servable_trainer.training.checkpoint import KeepEpochs, checkpoints
from servable_trainer.training.progress import EpochLines
from servable_trainer.training.run import MODEL, Run, RunError, load_run

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from servable_trainer.data.dataset import Dataset, Pictures
    from servable_trainer.training.checkpoint import Checkpoints

_TEACHER_SHARE = 0.5
_VALIDATION_BATCH = 512


def train(
    dataset: Dataset,
    *,
    directory: Path,
    recipe: str = "baseline",
    hyperparameters: dict[str, Any] | None = None,
    epochs: int | None = None,
    seed: int = 0,
    start_from: Path | None = None,
    all_data: bool = False,
    validation: float = VALIDATION_SHARE,
    weights: str | None = None,
    teacher: NDArray[np.float32] | None = None,
    patience: int | None = None,
    precision: str = "auto",
    tensorboard: Path | None = None,
    calibrate: bool = True,
    restart: bool = False,
) -> Run:
    """Train a network and write the run to `directory`.

    A training that was broken off, by whatever, goes on after its last whole epoch when it is
    called again with the same arguments, and ends as it would have.

    Args:
        dataset: Its training part alone is looked at.
        directory: A new folder for the run.
        recipe: One of `RECIPES`.
        hyperparameters: What to change of the recipe; a whole point where it is a search's.
        epochs: How often each picture is seen; the recipe's unless given.
        seed: The same seed on one machine gives the same curve.
        start_from: A run whose network to go on with, in place of a new one.
        all_data: Learn from the validation pictures too; nothing is left to validate with.
        validation: The share of the training part that is kept to validate with.
        weights: "imagenet" or a file, for a recipe that transfers.
        teacher: Another network's probabilities for each training picture, float32 [N, C], in the
            order of `dataset.train`: half of every target (Hinton et al. 2015,
            https://arxiv.org/abs/1503.02531).
        patience: End when the validation loss has not fallen for as many epochs, and keep the
            weights of the best.
        precision: "float32", "mixed_bfloat16", or "auto" for what the processor does well.
        tensorboard: A folder for TensorBoard's logs.
        calibrate: Fit a temperature to the validation pictures and make it part of the weights,
            where there are 200 or more; what goes on from another run keeps that one's.
        restart: Begin anew what was broken off.

    Raises:
        FolderError: `directory` exists or cannot be written.
        HyperparameterError: One is unknown, or outside its range.
        RecipeError: There is no such recipe.
        RunError: `start_from` is no run, or one for other classes or sizes; or what was broken
            off had other data, code or arguments.
        WeightsError: `weights` cannot be had.
    """
    before, start = load_run(start_from) if start_from else (None, None)
    name = before.recipe if before else recipe
    chosen = recipe_of(name)
    classifier = chosen.classifier(dataset, weights=None if before else weights)
    if before and (before.size, before.labels) != (classifier.size, list(dataset.labels)):
        raise RunError(f"{start_from} is a run for other classes or another size of picture")
    values = (
        before.hyperparameters if before else {**chosen.hyperparameters, **(hyperparameters or {})}
    )
    hp = hyperparameters_from(values, classifier)
    training = training_from(hp)
    if before:
        # The weights are nearly where they belong: a full step would throw them out again.
        training = replace(training, learning_rate=training.learning_rate / 10, schedule="cosine")
    epochs = chosen.epochs if epochs is None else epochs
    settings = {
        "dataset": dataset.checksums,
        "code": code_digest(),
        "recipe": name,
        "hyperparameters": plain(hp.values),
        "epochs": epochs,
        "seed": seed,
        "start": start_from and _digest(start_from / MODEL),
        "all_data": all_data,
        "validation": validation,
        "weights": weights,
        "teacher": teacher is not None and hashlib.sha256(teacher.tobytes()).hexdigest(),
        "patience": patience,
        "precision": policy_name(precision),
        "backend": keras.backend.backend(),
    }
    # First, so that a folder that cannot be written is known before any training.
    with checkpoints(directory) as kept:
        kept.begin(settings, restart=restart)
        fit, kept_back, targets = _divided(dataset, seed, 0 if all_data else validation, teacher)
        keras.utils.set_random_seed(seed)
        devices = spread()
        if kept_back:
            # A batch that the devices cannot share evenly is refused.
            kept_back = kept_back.first(max(len(kept_back) // devices, 1) * devices)
        with dtype_policy(precision):
            model = classifier.network(hp, learning=True)
        if before is not None and start is not None:
            # As it was while it learnt.
            cool(start, 1 / before.temperature)
            model.set_weights(start.get_weights())
        batches = Batches(
            fit,
            training,
            classes=classifier.classes,
            seed=seed,
            first_epoch=len(kept.epochs),
            targets=targets,
        )
        classifier.compile(model, training, steps=len(batches) * epochs)
        kept.load(model)
        if kept.epochs:
            say(f"going on after epoch {len(kept.epochs)}, which was kept in {kept.folder}")
        _fit(model, batches, kept_back, kept, epochs, patience, tensorboard, classifier.classes)
        # Without what only learning needs, and in float32: Keras stores the policy by layer.
        network = classifier.network(hp)
        network.set_weights(model.get_weights())
        # Of what another run learnt from nobody knows here which pictures it never saw.
        temperature = None
        if calibrate and before is None:
            temperature = find_temperature(network, kept_back)
        cooled_by = temperature or (before.temperature if before else 1.0)
        cool(network, cooled_by)
        run = Run(
            dataset=dataset.name,
            checksums=dataset.checksums,
            labels=list(dataset.labels),
            size=classifier.size,
            recipe=name,
            hyperparameters=plain(hp.values),
            seed=seed,
            epochs=kept.epochs,
            fitted=len(fit),
            validated=len(kept_back) if kept_back else 0,
            seconds=round(kept.seconds, 1),
            started_from={"epochs": before.epochs, "fitted": before.fitted, "seed": before.seed}
            if before
            else None,
            temperature=cooled_by,
            calibrated=len(kept_back) if temperature and kept_back else 0,
        )
        with new_folder(directory) as incoming:
            run.save(incoming, network)
    return run


def _divided(
    dataset: Dataset, seed: int, validation: float, teacher: NDArray[np.float32] | None
) -> tuple[Pictures, Pictures | None, NDArray[np.float32] | None]:
    """What to fit, what to validate with, and the targets where a teacher has a say in them."""
    if validation:
        fit, keep = dataset.split_indices(seed=seed, validation=validation)
    else:
        fit, keep = np.arange(len(dataset.train)), None
    pictures = dataset.train.take(fit)
    targets = None
    if teacher is not None:
        truth = one_hot(pictures.targets, len(dataset.labels))
        targets = (_TEACHER_SHARE * teacher[fit] + (1 - _TEACHER_SHARE) * truth).astype(np.float32)
    return pictures, None if keep is None else dataset.train.take(keep), targets


def _fit(
    model: keras.Model,
    batches: Batches,
    validation: Pictures | None,
    kept: Checkpoints,
    epochs: int,
    patience: int | None,
    tensorboard: Path | None,
    classes: int,
) -> None:
    """Fit until the last epoch, or until patience ends; `kept` has the curve then."""
    began = time.monotonic() - kept.seconds
    callbacks: list[keras.callbacks.Callback] = []
    if model.optimizer.use_ema and validation:
        callbacks.append(keras.callbacks.SwapEMAWeights())
    if tensorboard:
        callbacks.append(keras.callbacks.TensorBoard(tensorboard))
    callbacks += [KeepEpochs(kept, lambda: time.monotonic() - began, patience), EpochLines()]
    if not kept.out_of_patience(patience):
        try:
            model.fit(
                batches,
                validation_data=validation and whole(validation, classes),
                validation_batch_size=_VALIDATION_BATCH,
                epochs=epochs,
                initial_epoch=len(kept.epochs),
                # The batches shuffle themselves, in an order that outlives the process.
                shuffle=False,
                callbacks=callbacks,
                verbose=0,
            )
        except OSError as error:
            raise RunError(
                f"cannot write to {kept.folder}: {error.strerror or error}",
                hint="the same command goes on after the last epoch that was kept",
            ) from error
    if patience is not None:
        kept.load_best(model)
        if model.optimizer.use_ema and validation:
            # What validated best was the average of that epoch, not its last weights.
            model.optimizer.finalize_variable_values(model.trainable_variables)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
