"""Training: hyperparameters in, a run on disk out."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
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
from servable_trainer.training.calibration import apply_temperature, find_temperature
from servable_trainer.training.checkpoint import KeepEpochs, checkpoints
from servable_trainer.training.progress import EpochLines
from servable_trainer.training.run import MODEL, Run, RunError, load_run

if TYPE_CHECKING:
    from pathlib import Path

    import keras_tuner
    from numpy.typing import NDArray

    from servable_trainer.data.dataset import Dataset, Pictures
    from servable_trainer.networks.classifier import ImageClassifier
    from servable_trainer.networks.optimizer import Training
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

    An interrupted training resumes after its last finished epoch when it is called again with the
    same arguments, and ends with the same weights as an uninterrupted one.

    Args:
        dataset: Only its training part is used.
        directory: A new directory for the run.
        recipe: One of `RECIPES`.
        hyperparameters: Changes to the recipe's hyperparameters.
        epochs: Number of epochs; default: the recipe's.
        seed: The same seed gives the same curve on one machine.
        start_from: A run to fine-tune, in place of training a new network.
        all_data: Train on the validation images too; nothing is validated then.
        validation: Share of the training part that is kept for validation.
        weights: "imagenet" or a file, for a recipe with pretrained weights.
        teacher: Another network's probabilities for each training image, float32 [N, C], in the
            order of `dataset.train`: half of every target (Hinton et al. 2015,
            https://arxiv.org/abs/1503.02531).
        patience: Stop after this many epochs without a lower validation loss, and keep the weights
            of the best epoch.
        precision: "float32", "mixed_bfloat16", or "auto" for what the processor does well.
        tensorboard: A directory for TensorBoard's logs.
        calibrate: Fit a temperature to the validation images, if there are 200 or more, and make it
            part of the weights; a fine-tuned run keeps the temperature that it started with.
        restart: Discard an interrupted training.

    Raises:
        FolderError: `directory` exists or cannot be written.
        HyperparameterError: A hyperparameter is unknown or out of range.
        RecipeError: There is no such recipe.
        RunError: `start_from` is not a run, or is one for other classes or sizes; or the
            interrupted training had other data, code or arguments.
        WeightsError: `weights` cannot be loaded.
    """
    plan = _plan(
        dataset,
        recipe=recipe,
        hyperparameters=hyperparameters,
        epochs=epochs,
        seed=seed,
        start_from=start_from,
        validation=0 if all_data else validation,
        weights=weights,
        teacher=teacher,
        patience=patience,
        precision=precision,
        tensorboard=tensorboard,
        calibrate=calibrate,
    )
    # Before any training, so that a directory that cannot be written is reported at once.
    with checkpoints(directory) as kept:
        settings = {**plan.settings, "all_data": all_data, "validation": validation}
        kept.begin(settings, restart=restart)
        fit = plan.resume(kept)
        plan.fit(fit, kept)
        network, temperature, calibrated = plan.calibrated(fit)
        run = plan.record(fit, kept, temperature=temperature, calibrated=calibrated)
        with new_folder(directory) as incoming:
            run.save(incoming, network)
    return run


@dataclass(frozen=True, kw_only=True)
class StartingPoint:
    """A run that is fine-tuned.

    Attributes:
        run: Its record.
        network: Its network.
        digest: SHA-256 of the network's file.
    """

    run: Run
    network: keras.Model
    digest: str


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A network while it is trained, and what it is trained on.

    Attributes:
        model: The network, with its augmentation.
        batches: The training images.
        count: How many there are.
        validation: The validation images, if any.
    """

    model: keras.Model
    batches: Batches
    count: int
    validation: Pictures | None


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """All that determines a training; each step of it is a method.

    Attributes:
        dataset: The data.
        recipe: The recipe's name.
        classifier: The family of networks.
        hp: The network's hyperparameters.
        training: Their part that configures the training.
        epochs: Number of epochs.
        seed: Seed of the split, the weights and the batches.
        start: The run to fine-tune, if any.
        validation: Share of the training part to validate on; 0 for none.
        weights: "imagenet", a file, or None.
        teacher: A teacher's probabilities for each training image, if any.
        patience: Epochs without improvement before stopping, or None.
        precision: The requested precision.
        tensorboard: A directory for TensorBoard's logs, or None.
        calibrate: Whether to fit a temperature.
    """

    dataset: Dataset
    recipe: str
    classifier: ImageClassifier
    hp: keras_tuner.HyperParameters
    training: Training
    epochs: int
    seed: int
    start: StartingPoint | None
    validation: float
    weights: str | None
    teacher: NDArray[np.float32] | None
    patience: int | None
    precision: str
    tensorboard: Path | None
    calibrate: bool

    @property
    def settings(self) -> dict[str, Any]:
        """What must be the same for an interrupted training to resume."""
        return {
            "dataset": self.dataset.checksums,
            "code": code_digest(),
            "recipe": self.recipe,
            "hyperparameters": plain(self.hp.values),
            "epochs": self.epochs,
            "seed": self.seed,
            "start": self.start and self.start.digest,
            "weights": self.weights,
            "teacher": self.teacher is not None
            and hashlib.sha256(self.teacher.tobytes()).hexdigest(),
            "patience": self.patience,
            "precision": policy_name(self.precision),
            "backend": keras.backend.backend(),
        }

    def resume(self, kept: Checkpoints) -> Fit:
        """Build the network and its batches as they were after the last finished epoch.

        Raises:
            RunError: The checkpoint's weights are missing or damaged.
        """
        images, validation, targets = self._split()
        keras.utils.set_random_seed(self.seed)
        devices = spread()
        if validation:
            # A batch that the devices cannot share evenly is refused.
            validation = validation.first(max(len(validation) // devices, 1) * devices)
        with dtype_policy(self.precision):
            model = self.classifier.network(self.hp, learning=True)
        if self.start:
            # Without its temperature, as it was while it was trained.
            apply_temperature(self.start.network, 1 / self.start.run.temperature)
            model.set_weights(self.start.network.get_weights())
        batches = Batches(
            images,
            self.training,
            classes=self.classifier.classes,
            seed=self.seed,
            first_epoch=len(kept.epochs),
            targets=targets,
        )
        self.classifier.compile(model, self.training, steps=len(batches) * self.epochs)
        # Otherwise the first step builds it, and TensorFlow traces that step a second time.
        model.optimizer.build(model.trainable_variables)
        kept.load(model)
        if kept.epochs:
            say(f"resuming after epoch {len(kept.epochs)} from {kept.folder}")
        return Fit(model=model, batches=batches, count=len(images), validation=validation)

    def _split(self) -> tuple[Pictures, Pictures | None, NDArray[np.float32] | None]:
        """Training images, validation images, and targets if a teacher contributes to them."""
        dataset = self.dataset
        if self.validation:
            fit, keep = dataset.split_indices(seed=self.seed, validation=self.validation)
        else:
            fit, keep = np.arange(len(dataset.train)), None
        images = dataset.train.take(fit)
        targets = None
        if self.teacher is not None:
            truth = one_hot(images.targets, len(dataset.labels))
            targets = (_TEACHER_SHARE * self.teacher[fit] + (1 - _TEACHER_SHARE) * truth).astype(
                np.float32
            )
        return images, None if keep is None else dataset.train.take(keep), targets

    def fit(self, fit: Fit, kept: Checkpoints) -> None:
        """Train until the last epoch or until patience ends; `kept` holds the curve then.

        Raises:
            RunError: A checkpoint cannot be written.
        """
        model, validation = fit.model, fit.validation
        averaged = model.optimizer.use_ema and validation
        if not kept.out_of_patience(self.patience):
            callbacks: list[keras.callbacks.Callback] = []
            if averaged:
                callbacks.append(keras.callbacks.SwapEMAWeights())
            if self.tensorboard:
                callbacks.append(keras.callbacks.TensorBoard(self.tensorboard))
            callbacks += [KeepEpochs(kept, self.patience), EpochLines()]
            model.fit(
                fit.batches,
                validation_data=validation and whole(validation, self.classifier.classes),
                validation_batch_size=_VALIDATION_BATCH,
                epochs=self.epochs,
                initial_epoch=len(kept.epochs),
                # The batches shuffle themselves, reproducibly across processes.
                shuffle=False,
                callbacks=callbacks,
                verbose=0,
            )
        if self.patience is not None:
            kept.load_best(model)
            if averaged:
                # What validated best was the average of that epoch, not its last weights.
                model.optimizer.finalize_variable_values(model.trainable_variables)

    def calibrated(self, fit: Fit) -> tuple[keras.Model, float, int]:
        """The network to save, its temperature, and how many images that was fitted to.

        The network is without its augmentation, and in float32: Keras stores the policy by layer.
        """
        network = self.classifier.network(self.hp)
        network.set_weights(fit.model.get_weights())
        found = None
        # Which images a run that is fine-tuned was trained on is not known here.
        if self.calibrate and self.start is None:
            found = find_temperature(network, fit.validation)
        temperature = found or (self.start.run.temperature if self.start else 1.0)
        apply_temperature(network, temperature)
        return network, temperature, len(fit.validation) if found and fit.validation else 0

    def record(self, fit: Fit, kept: Checkpoints, *, temperature: float, calibrated: int) -> Run:
        """The record of the training."""
        before = self.start.run if self.start else None
        return Run(
            dataset=self.dataset.name,
            checksums=self.dataset.checksums,
            labels=list(self.dataset.labels),
            size=self.classifier.size,
            recipe=self.recipe,
            hyperparameters=plain(self.hp.values),
            seed=self.seed,
            epochs=kept.epochs,
            fitted=fit.count,
            validated=len(fit.validation) if fit.validation else 0,
            seconds=round(kept.seconds, 1),
            cpu_seconds=None if kept.cpu_seconds is None else round(kept.cpu_seconds, 1),
            started_from={"epochs": before.epochs, "fitted": before.fitted, "seed": before.seed}
            if before
            else None,
            temperature=temperature,
            calibrated=calibrated,
        )


def _plan(
    dataset: Dataset,
    *,
    recipe: str,
    hyperparameters: dict[str, Any] | None,
    epochs: int | None,
    start_from: Path | None,
    weights: str | None,
    **given: Any,
) -> TrainingPlan:
    """Resolve what `train` was given: recipe, network and hyperparameters."""
    start = _starting_point(start_from) if start_from else None
    name = start.run.recipe if start else recipe
    chosen = recipe_of(name)
    classifier = chosen.classifier(dataset, weights=None if start else weights)
    if start and (start.run.size, start.run.labels) != (classifier.size, list(dataset.labels)):
        raise RunError(f"{start_from} is a run for other classes or another image size")
    hp = hyperparameters_from(
        start.run.hyperparameters
        if start
        else {**chosen.hyperparameters, **(hyperparameters or {})},
        classifier,
    )
    training = training_from(hp)
    if start:
        # The weights are nearly right already: full steps would undo them.
        training = replace(training, learning_rate=training.learning_rate / 10, schedule="cosine")
    return TrainingPlan(
        dataset=dataset,
        recipe=name,
        classifier=classifier,
        hp=hp,
        training=training,
        epochs=chosen.epochs if epochs is None else epochs,
        start=start,
        weights=weights,
        **given,
    )


def _starting_point(directory: Path) -> StartingPoint:
    run, network = load_run(directory)
    if run.model is not None:
        raise RunError(
            f"{directory} is a run of {run.model}, and only runs of a recipe can be fine-tuned"
        )
    digest = hashlib.sha256((directory / MODEL).read_bytes()).hexdigest()
    return StartingPoint(run=run, network=network, digest=digest)
