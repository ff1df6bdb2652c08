"""Batch normalization that became part of the layer before it, and what was left alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import pytest
from keras import layers

from servable_serving.exporter.fold_batch_norm import folded

if TYPE_CHECKING:
    from collections.abc import Callable


def conv(filters: int = 4, **options: Any) -> Any:
    return layers.Conv2D(filters, 3, padding="same", **options)


def plain(x: Any) -> Any:
    return layers.ReLU()(layers.BatchNormalization()(conv(use_bias=False)(x)))


def residual(x: Any) -> Any:
    x = plain(x)
    return layers.Add()([x, layers.BatchNormalization()(conv()(x))])


def depthwise(x: Any) -> Any:
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, use_bias=False)(x)
    return layers.BatchNormalization(center=False)(x)


def grouped(x: Any) -> Any:
    return layers.BatchNormalization(scale=False)(conv(6, groups=3)(x))


def dense(x: Any) -> Any:
    return layers.BatchNormalization()(layers.Dense(5)(layers.Flatten()(x)))


def nested(x: Any) -> Any:
    inner = keras.Input(x.shape[1:])
    return keras.Model(inner, residual(inner), name="inside")(x)


def pooled(x: Any) -> Any:
    return layers.BatchNormalization(name="scaled_up")(layers.MaxPooling2D()(conv()(x)))


def activated(x: Any) -> Any:
    return layers.BatchNormalization()(conv(activation="relu")(x))


def used_twice(x: Any) -> Any:
    x = conv()(x)
    return layers.Add()([x, layers.BatchNormalization()(x)])


def shared(x: Any) -> Any:
    one = conv(3)
    return layers.BatchNormalization()(one(one(x)))


def pooled_and_turned_round(x: Any) -> Any:
    return layers.BatchNormalization(name="turned")(layers.MaxPooling2D()(conv()(x)))


def network(body: Callable[[Any], Any]) -> keras.Model:
    """A network of that body, its statistics and weights drawn at random."""
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 3))
    model = keras.Model(image, layers.Flatten()(body(image)))
    draw = np.random.default_rng(0)
    for weight in model.weights:
        value = draw.normal(0.2, 0.5, weight.shape)
        if weight.path.endswith("moving_variance") or "scaled_up/gamma" in weight.path:
            value = np.abs(value) + 0.1
        weight.assign(value)
    return model


def normalizations(model: keras.Model) -> int:
    return sum(
        isinstance(layer, layers.BatchNormalization)
        for layer in model._flatten_layers()
    )  # fmt: skip


@pytest.mark.parametrize(
    ("body", "left"),
    [
        (plain, 0), (residual, 0), (depthwise, 0), (grouped, 0), (dense, 0), (nested, 0),
        (pooled, 0), (activated, 1), (used_twice, 1), (shared, 1), (pooled_and_turned_round, 1),
    ],
)  # fmt: skip
def test_it_answers_as_before(body: Callable[[Any], Any], left: int) -> None:
    model = network(body)
    weights = model.get_weights()
    result = folded(model)
    assert normalizations(result) == left
    assert normalizations(model) > 0
    pictures = np.random.default_rng(1).normal(size=[5, 8, 8, 3]).astype(np.float32)
    expected = model(pictures, training=False).numpy()
    assert expected.std() > 0.1
    np.testing.assert_allclose(result(pictures, training=False).numpy(), expected, atol=1e-5)
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def test_a_row_of_layers_is_folded_too() -> None:
    model = keras.Sequential([keras.Input((8, 8, 3)), conv(), layers.BatchNormalization()])
    model.layers[1].moving_mean.assign([1.0, 2.0, 3.0, 4.0])
    result = folded(model)
    assert normalizations(result) == 0
    pictures = np.ones([2, 8, 8, 3], np.float32)
    np.testing.assert_allclose(result(pictures).numpy(), model(pictures).numpy(), atol=1e-5)


def test_what_has_no_layers_to_look_at_is_left_as_it_is() -> None:
    class Own(keras.Model):
        def call(self, x: Any) -> Any:
            return x

    own = Own()
    assert folded(own) is own
