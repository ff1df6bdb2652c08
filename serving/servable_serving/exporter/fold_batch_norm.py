"""Batch normalization, folded into the layer before it: at inference both are one affine map."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import layers

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Layers that end in a multiplication by a kernel whose last axis is the output's, and a bias.
_LINEAR = (layers.Conv1D, layers.Conv2D, layers.Conv3D, layers.DepthwiseConv2D, layers.Dense)


class _Identity(layers.Layer):  # type: ignore[misc]
    """Replaces a folded normalization, with the same call signature."""

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:  # noqa: ARG002
        return inputs


def folded(model: keras.Model) -> keras.Model:
    """A network equivalent to `model`, with as few batch normalizations as possible.

    One that follows a convolution or a dense layer, and nothing else follows that, becomes part of
    its kernel and bias. So does one behind a max pooling, as long as all its scales are positive:
    the largest of several numbers is then the same before and after. What is not folded stays.

    Args:
        model: A functional or sequential network; any other comes back as it is.
    """
    if not isinstance(model, keras.Sequential | keras.Model) or not getattr(model, "layers", None):
        return model
    if type(model).__name__ not in ("Functional", "Sequential"):
        return model
    pairs = {
        layer: before
        for layer in model.layers
        if isinstance(layer, layers.BatchNormalization) and (before := _before(layer)) is not None
    }
    into = {before: layer for layer, before in pairs.items()}
    made: dict[Any, Any] = {}

    def clone(layer: Any) -> Any:
        if layer in pairs:
            made[layer] = _Identity(name=layer.name)
        elif layer in into:
            made[layer] = type(layer).from_config({**layer.get_config(), "use_bias": True})
        elif type(layer).__name__ in ("Functional", "Sequential"):
            made[layer] = folded(layer)
        else:
            made[layer] = type(layer).from_config(layer.get_config())
        return made[layer]

    result = keras.models.clone_model(model, clone_function=clone)
    for layer, copy in made.items():
        if layer in into:
            copy.set_weights(_merged(layer, into[layer]))
        elif (
            layer not in pairs
            and isinstance(layer, layers.Layer)  # `a + b` is an operation, without weights
            and type(layer).__name__ not in ("Functional", "Sequential")
        ):
            copy.set_weights(layer.get_weights())
    return result


def _before(normalization: Any) -> Any:
    """The layer that a normalization can be folded into, or None."""
    if normalization.axis not in (-1, len(normalization.input.shape) - 1):
        return None
    layer = _producer(normalization)
    if isinstance(layer, layers.MaxPooling1D | layers.MaxPooling2D | layers.MaxPooling3D):
        scale, _ = _affine(normalization)
        if not (scale > 0).all():
            return None
        layer = _producer(layer)
    fits = (
        isinstance(layer, _LINEAR)
        and layer.activation is keras.activations.linear
        and getattr(layer, "data_format", "channels_last") == "channels_last"
    )
    return layer if fits else None


def _producer(layer: Any) -> Any:
    """The layer whose output `layer` alone takes, each of them called once; or None."""
    if len(layer._inbound_nodes) != 1:  # noqa: SLF001
        return None
    source = layer.input._keras_history.operation  # noqa: SLF001
    once = len(source._inbound_nodes) == 1 and len(source._outbound_nodes) == 1  # noqa: SLF001
    return source if once else None


def _affine(normalization: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The scale and offset of each channel in a normalization at inference."""
    mean, variance = (
        np.asarray(weight.numpy(), np.float64)
        for weight in (normalization.moving_mean, normalization.moving_variance)
    )
    scale = 1 / np.sqrt(variance + normalization.epsilon)
    if normalization.scale:
        scale = scale * np.asarray(normalization.gamma.numpy(), np.float64)
    offset = -mean * scale
    if normalization.center:
        offset = offset + np.asarray(normalization.beta.numpy(), np.float64)
    return scale, offset


def _merged(layer: Any, normalization: Any) -> list[NDArray[np.float32]]:
    """The combined kernel and bias."""
    kernel, *rest = (np.asarray(weight, np.float64) for weight in layer.get_weights())
    scale, offset = _affine(normalization)
    bias = rest[0] if rest else 0.0
    # A depthwise kernel has its outputs in the last two axes.
    by = scale.reshape(kernel.shape[-2:]) if isinstance(layer, layers.DepthwiseConv2D) else scale
    return [(kernel * by).astype(np.float32), (bias * scale + offset).astype(np.float32)]
