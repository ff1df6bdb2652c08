"""Training of a network of one's own, by KerasTuner's contract."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import keras

from servable_client.cli.console import say
from servable_serving.core.files import new_folder
from servable_serving.core.imports import user_code
from servable_trainer.data.dataset import VALIDATION_SHARE, Dataset
from servable_trainer.networks.classifier import plain
from servable_trainer.networks.own_images import image_inputs
from servable_trainer.networks.own_network import (
    dtypes_of,
    ensure_built,
    epochs_of,
    has_own_layers,
)
from servable_trainer.networks.precision import dtype_policy
from servable_trainer.training.checkpoint import KeepEpochs, checkpoints
from servable_trainer.training.progress import EpochLines
from servable_trainer.training.run import Run, RunError

if TYPE_CHECKING:
    from pathlib import Path

    import keras_tuner

    from servable_trainer.data.own_data import OwnData, Part
    from servable_trainer.networks.own_images import ImageInputs
    from servable_trainer.networks.own_network import OwnNetwork
    from servable_trainer.training.checkpoint import Checkpoints

_EPOCHS = 10
# Enough to see whether a network answers with probabilities.
_SEEN = 64


def train_own(
    network: OwnNetwork,
    dataset: Dataset | OwnData,
    *,
    directory: Path,
    hyperparameters: dict[str, Any] | None = None,
    epochs: int | None = None,
    seed: int = 0,
    all_data: bool = False,
    validation: float = VALIDATION_SHARE,
    patience: int | None = None,
    precision: str | None = None,
    input_range: str | None = None,
    tensorboard: Path | None = None,
    restart: bool = False,
) -> Run:
    """Train a network of your own and write the run to `directory`.

    An interrupted training resumes after its last finished epoch when it is called again with the
    same arguments. It ends with the same weights as an uninterrupted one, if the data is arrays and
    the HyperModel's `fit` is not overridden; otherwise the order of the examples is another.

    Args:
        network: The network.
        dataset: Labelled images, of which only the training part is used; or other data.
        directory: A new directory for the run.
        hyperparameters: Values of the network's hyperparameters; the others have their defaults.
        epochs: Number of epochs; default: 10.
        seed: Seed of the split, the weights and the batches.
        all_data: Train on the validation part too; nothing is validated then.
        validation: Share of the training part that is kept for validation, where none is given.
        patience: Stop after this many epochs without a lower validation loss, and keep the weights
            of the best epoch.
        precision: "float32" or "mixed_bfloat16"; default: what the network's code chooses.
        input_range: How the network takes the images of a dataset: "0..1", "-1..1", "0..255",
            "caffe" or "torch"; default: "0..255" if it scales pixels itself, else "0..1".
        tensorboard: A directory for TensorBoard's logs.
        restart: Discard an interrupted training.

    Raises:
        DatasetError: The data cannot be split.
        ExportError: The network can be saved, and not be loaded again for the export.
        FolderError: `directory` exists or cannot be written.
        HyperparameterError: A hyperparameter is unknown or out of range.
        NetworkError: The network does not fit the data, or cannot be saved.
        RunError: The interrupted training had other data, code or arguments.
        UserCodeError: The network's code failed.
    """
    if all_data and patience is not None:
        raise RunError("nothing is validated, and --patience goes by the validation loss")
    space, sample = network.space()
    hp = network.hyperparameters(hyperparameters or {}, space)
    inputs = None
    if isinstance(dataset, Dataset):
        inputs = image_inputs(
            sample,
            shape=dataset.train.images.shape[1:],
            classes=len(dataset.labels),
            input_range=input_range,
            name=network.name,
        )
    settings = {
        "dataset": dataset.checksums,
        "data": dataset.name,
        "code": network.digest,
        "model": network.name,
        "keras": keras.__version__,
        "backend": keras.backend.backend(),
        "hyperparameters": plain(hp.values),
        "batch_size": network.batch_size,
        "epochs": epochs or _EPOCHS,
        "seed": seed,
        "validation": 0 if all_data else validation,
        "patience": patience,
        "precision": precision,
        "input_range": inputs and inputs.input_range,
    }
    # Before any training, so that a directory that cannot be written is reported at once.
    with checkpoints(directory) as kept:
        kept.begin(settings, restart=restart)
        fit, keep = _parts(dataset, inputs, seed, validation=settings["validation"])
        model = _model(network, hp, fit, kept, seed=seed, precision=precision)
        _fit(
            network, hp, model, fit, keep, kept,
            epochs=epochs or _EPOCHS, seed=seed, patience=patience, tensorboard=tensorboard,
        )  # fmt: skip
        if inputs is not None:
            some = fit.first(_SEEN).x
            logits = inputs.answers_logits(model.predict_on_batch(some))
            inputs = replace(inputs, logits=logits)
        labels = list(dataset.labels) if isinstance(dataset, Dataset) else []
        size = dataset.train.images.shape[1:] if isinstance(dataset, Dataset) else ()
        run = Run(
            dataset=dataset.name,
            checksums=dataset.checksums,
            labels=labels,
            size=tuple(size),
            recipe="",
            model=network.name,
            inputs=None if inputs is None else asdict(inputs),
            custom_objects=network.module if has_own_layers(model) else None,
            dtypes=dtypes_of(fit),
            hyperparameters=plain(hp.values),
            seed=seed,
            epochs=kept.epochs,
            fitted=_count(fit),
            validated=0 if keep is None else _count(keep),
            seconds=round(kept.seconds, 1),
            cpu_seconds=None if kept.cpu_seconds is None else round(kept.cpu_seconds, 1),
        )
        with new_folder(directory) as incoming:
            run.save(incoming, model)
    return run


def _parts(
    dataset: Dataset | OwnData, inputs: ImageInputs | None, seed: int, *, validation: float
) -> tuple[Part, Part | None]:
    """Training and validation part; no share for validation is kept back if that is 0."""
    if isinstance(dataset, Dataset):
        assert inputs is not None
        return inputs.parts(dataset, seed=seed, validation=validation)
    if not validation:
        return dataset.train, None
    return dataset.split(seed=seed, validation=validation)


def _model(
    network: OwnNetwork,
    hp: keras_tuner.HyperParameters,
    fit: Part,
    kept: Checkpoints,
    *,
    seed: int,
    precision: str | None,
) -> keras.Model:
    """The network as it was after the last finished epoch."""
    keras.utils.set_random_seed(seed)
    with user_code(network.name), dtype_policy(precision):
        model = network.build(hp)
        ensure_built(model, fit)
    network.check_saved(model, dtypes_of(fit))
    if model.compiled:
        # Otherwise only the first step would create the variables that a checkpoint restores.
        model.optimizer.build(model.trainable_variables)
    kept.load(model)
    if kept.epochs:
        say(f"resuming after epoch {len(kept.epochs)} from {kept.folder}")
    return model


def _fit(
    network: OwnNetwork,
    hp: keras_tuner.HyperParameters,
    model: keras.Model,
    fit: Part,
    keep: Part | None,
    kept: Checkpoints,
    *,
    epochs: int,
    seed: int,
    patience: int | None,
    tensorboard: Path | None,
) -> None:
    """Train until the last epoch or until patience ends; `kept` holds the curve then."""
    if not kept.out_of_patience(patience) and len(kept.epochs) < epochs:
        lines = EpochLines()
        callbacks: list[keras.callbacks.Callback] = [KeepEpochs(kept, patience), lines]
        if tensorboard:
            callbacks.insert(0, keras.callbacks.TensorBoard(tensorboard))
        try:
            with user_code(network.name):
                result = network.fit(
                    hp,
                    model,
                    fit,
                    validation_data=keep,
                    epochs=epochs,
                    initial_epoch=len(kept.epochs),
                    seed=seed,
                    callbacks=callbacks,
                )
        finally:
            lines.on_train_end()
        if not kept.epochs:  # a training loop that calls no callbacks
            kept.epochs = epochs_of(result, [], objective="result")
    if patience is not None:
        kept.load_best(model)


def _count(part: Part) -> int:
    """Number of examples; 0 if a dataset of batches does not tell."""
    return 0 if part.yields_batches else len(part)
