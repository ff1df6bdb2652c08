"""The networks, and the search space of their hyperparameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import keras
import keras_tuner
from keras import layers

from servable_client import ServableError
from servable_trainer.networks.augment import augmented
from servable_trainer.networks.batches import Batches, whole
from servable_trainer.networks.optimizer import Training, training_from

if TYPE_CHECKING:
    from servable_trainer.data.dataset import Pictures

# Keras' default of 0.99 takes some 500 batches to forget its initial value: after the hundred
# batches of a trial, validation would measure that and not the network.
_MOMENTUM = 0.9
_VALIDATION_BATCH = 500


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """The part of the hyperparameters that shapes the network.

    Attributes:
        kind: "plain" or "residual".
        stages: Number of times that the image is halved.
        width: Filters of the first convolution; each stage has twice those of the one before.
        blocks: Residual blocks a stage, or in a plain network convolutions a stage.
        kernel_size: Height and width of every convolution but a shortcut's.
        dense_units: Units between the features and the classes; 0 for global average pooling
            instead.
        dropout: Share of features dropped, 0 to 1.
        batch_norm: Whether each convolution's output is normalized over the batch.
    """

    kind: str
    stages: int
    width: int
    blocks: int
    kernel_size: int
    dense_units: int
    dropout: float
    batch_norm: bool


class ImageClassifier(keras_tuner.HyperModel):  # type: ignore[misc]
    """A convolutional classifier, plain or residual.

    A plain network is a row of stages of convolution, max pooling, batch normalization, ReLU and
    dropout; pooling comes first, since it commutes with ReLU and what follows has a quarter of the
    work. A residual one begins with a convolution at full size, and each of its stages with one of
    stride 2, followed by residual blocks (He et al. 2015, https://arxiv.org/abs/1512.03385) whose
    second normalization begins at zero (Goyal et al. 2017, https://arxiv.org/abs/1706.02677).

    Args:
        size: Height and width of an image, and 3 if it is in colour.
        classes: Number of classes.

    Attributes:
        precision: In which it is trained, as `dtype_policy` takes it.
    """

    precision: str | None = "auto"

    def __init__(self, *, size: tuple[int, ...], classes: int) -> None:
        super().__init__(name="image_classifier")
        self.size = tuple(map(int, size))
        self.classes = classes

    def build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        """Build and compile a network for training.

        It maps images, uint8 [N, height, width] or [N, height, width, 3], to probabilities, float32
        [N, classes]; in training it augments its inputs.
        """
        model = self.network(hp, learning=True)
        self.compile(model, training_from(hp), steps=1)
        return model

    def fit(
        self,
        hp: keras_tuner.HyperParameters,
        model: keras.Model,
        pictures: Pictures,
        *,
        validation_data: Pictures | None = None,
        epochs: int,
        initial_epoch: int = 0,
        seed: int = 0,
        **kwargs: Any,
    ) -> keras.callbacks.History:
        """Train a network from `build`, with the learning rate scheduled over all epochs.

        Args:
            hp: The hyperparameters that `model` was built from.
            model: The network, with the weights of its earlier epochs if there are any.
            pictures: Training images.
            validation_data: Validation images.
            epochs: The last epoch.
            initial_epoch: Number of finished epochs.
            seed: Seed of the order of the images.
            kwargs: Further arguments of `keras.Model.fit`.
        """
        training = training_from(hp)
        batches = Batches(
            pictures, training, classes=self.classes, seed=seed, first_epoch=initial_epoch
        )
        self.compile(model, training, steps=len(batches) * epochs)
        model.optimizer.build(model.trainable_variables)
        model.optimizer.iterations.assign(len(batches) * initial_epoch)
        return model.fit(
            batches,
            validation_data=validation_data and whole(validation_data, self.classes),
            validation_batch_size=_VALIDATION_BATCH,
            **{"verbose": 0, "epochs": epochs, "initial_epoch": initial_epoch, **kwargs},
        )

    def compile(self, model: keras.Model, training: Training, *, steps: int) -> None:
        """Compile `model` with an optimizer whose schedule ends after `steps` batches."""
        model.compile(
            optimizer=training.optimizer(steps),
            loss=keras.losses.CategoricalCrossentropy(label_smoothing=training.label_smoothing),
            metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
            jit_compile=False if keras.backend.backend() == "tensorflow" else "auto",
        )

    def network(self, hp: keras_tuner.HyperParameters, *, learning: bool = False) -> keras.Model:
        """The network, for training with its augmentation in front.

        Both variants have the same weights in the same order, as `set_weights` needs.
        """
        image = keras.Input(self.size, dtype="uint8", name="image")
        x = layers.Reshape((*self.size, 1)[:3])(image)
        x = layers.Rescaling(1 / 255)(x)
        if learning:
            x = augmented(x, hp)
        features = self.features(x, hp)
        # In float32 under mixed precision too: bfloat16 has only two or three digits.
        probabilities = layers.Dense(
            self.classes, activation="softmax", dtype="float32", name="probabilities"
        )(features)
        return keras.Model(image, probabilities, name=self.name)

    def features(self, x: keras.KerasTensor, hp: keras_tuner.HyperParameters) -> keras.KerasTensor:
        """Map images, float32 [N, height, width, channels] of 0 to 1, to features [N, F]."""
        shape = architecture_from(hp)
        stages = _residual if shape.kind == "residual" else _plain
        x = stages(x, shape)
        if not shape.dense_units:
            x = layers.GlobalAveragePooling2D()(x)
            return layers.Dropout(shape.dropout)(x)
        x = layers.Flatten()(x)
        x = layers.Dense(shape.dense_units, activation="relu")(x)
        return layers.Dropout(shape.dropout)(x)


def architecture_from(hp: keras_tuner.HyperParameters) -> Architecture:
    """Query the hyperparameters of the architecture."""
    return Architecture(
        kind=hp.Choice("kind", ["plain", "residual"]),
        stages=hp.Int("stages", 1, 3, default=2),
        width=hp.Choice("width", [8, 16, 24, 32, 48, 64], default=24),
        blocks=hp.Int("blocks", 1, 3),
        kernel_size=hp.Choice("kernel_size", [3, 5]),
        dense_units=hp.Choice("dense_units", [0, 64, 128, 256], default=0),
        dropout=hp.Float("dropout", 0.0, 0.5, step=0.1, default=0.1),
        batch_norm=hp.Boolean("batch_norm", default=True),
    )


def _plain(x: keras.KerasTensor, shape: Architecture) -> keras.KerasTensor:
    for stage in range(shape.stages):
        for block in range(shape.blocks):
            x = _convolution(x, shape.width << stage, shape)
            if block + 1 == shape.blocks:
                x = layers.MaxPooling2D(padding="same")(x)
            x = layers.ReLU()(_normalized(x, shape))
        x = layers.Dropout(shape.dropout)(x)
    return x


def _residual(x: keras.KerasTensor, shape: Architecture) -> keras.KerasTensor:
    x = layers.ReLU()(_normalized(_convolution(x, shape.width, shape), shape))
    for stage in range(1, shape.stages + 1):
        filters = shape.width << stage
        x = layers.ReLU()(_normalized(_convolution(x, filters, shape, strides=2), shape))
        for _ in range(shape.blocks):
            y = layers.ReLU()(_normalized(_convolution(x, filters, shape), shape))
            y = _normalized(_convolution(y, filters, shape), shape, gamma="zeros")
            x = layers.ReLU()(layers.Add()([x, y]))
    return x


def _convolution(
    x: keras.KerasTensor, filters: int, shape: Architecture, *, strides: int = 1
) -> keras.KerasTensor:
    return layers.Conv2D(
        filters,
        shape.kernel_size,
        strides=strides,
        padding="same",
        use_bias=not shape.batch_norm,
        kernel_initializer="he_normal",
    )(x)


def _normalized(
    x: keras.KerasTensor, shape: Architecture, *, gamma: str = "ones"
) -> keras.KerasTensor:
    if not shape.batch_norm:
        return x
    return layers.BatchNormalization(momentum=_MOMENTUM, gamma_initializer=gamma)(x)


class HyperparameterError(ServableError):
    """Hyperparameters are not of the space."""


def space_of(classifier: ImageClassifier) -> keras_tuner.HyperParameters:
    """Every hyperparameter that `classifier` queries, at its default."""
    space = keras_tuner.HyperParameters()
    classifier.network(space, learning=True)
    training_from(space)
    return space


def hyperparameters_from(
    values: dict[str, Any], classifier: ImageClassifier
) -> keras_tuner.HyperParameters:
    """Hyperparameters that hold `values`; what is not among them takes its default.

    Raises:
        HyperparameterError: One is unknown, or outside its range.
    """
    return check_values(values, space_of(classifier))


def check_values(
    values: dict[str, Any], space: keras_tuner.HyperParameters, *, allow_unknown: bool = False
) -> keras_tuner.HyperParameters:
    """A space in which `values` are set; what is not among them keeps its default.

    Args:
        values: Hyperparameters by name.
        space: All that a network asks for.
        allow_unknown: Accept others too.

    Raises:
        HyperparameterError: One is unknown, or outside its range.
    """
    space = space.copy()
    # Under several conditions there may be several of a name.
    known: dict[str, list[Any]] = {}
    for one in space.space:
        known.setdefault(one.name, []).append(one)
    for name, value in values.items():
        if name not in known:
            if allow_unknown:
                continue
            raise HyperparameterError(
                f"unknown hyperparameter {name!r}", hint=f"choose from {', '.join(sorted(known))}"
            )
        if not any(_fits(value, one) for one in known[name]):
            ranges = " or ".join(dict.fromkeys(map(_range, known[name])))
            raise HyperparameterError(f"{name} is {value!r}, but must be {ranges}")
    space.values.update(values)
    return space


def _fits(value: object, one: Any) -> bool:
    kinds = keras_tuner.engine.hyperparameters
    if isinstance(one, kinds.Boolean):
        return isinstance(value, bool)
    if isinstance(one, kinds.Fixed):
        return bool(value == one.value)
    if isinstance(value, bool):
        return False
    if isinstance(one, kinds.Choice):
        return value in one.values
    if not isinstance(value, int if isinstance(one, kinds.Int) else (int, float)):
        return False
    return bool(one.min_value <= value <= one.max_value)


def _range(one: Any) -> str:
    kinds = keras_tuner.engine.hyperparameters
    if isinstance(one, kinds.Boolean):
        return "true or false"
    if isinstance(one, kinds.Fixed):
        return repr(one.value)
    if isinstance(one, kinds.Choice):
        return str(one.values)
    return f"{one.min_value} to {one.max_value}"


def plain(values: dict[str, Any]) -> dict[str, Any]:
    """Hyperparameter values for JSON: tuners may yield NumPy scalars."""
    return {k: v.item() if hasattr(v, "item") else v for k, v in values.items()}
