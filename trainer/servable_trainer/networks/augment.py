"""Augmentation layers, which are active only in training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keras import layers

if TYPE_CHECKING:
    import keras
    import keras_tuner

# Random erasing's patches, as shares of the image's sides (Zhong et al. 2017,
# https://arxiv.org/abs/1708.04896, has 2 to 33 % of its area).
_ERASED = (0.15, 0.4)


def augmented(x: keras.KerasTensor, hp: keras_tuner.HyperParameters) -> keras.KerasTensor:
    """Query the hyperparameters of augmentation, and add its layers after `x`.

    Keras' own layers, which are inactive outside training: a horizontal flip, a shift by whole
    pixels, a patch of noise, a black square (cutout, DeVries and Taylor 2017,
    https://arxiv.org/abs/1708.04552).

    Args:
        x: Images, float32 [N, height, width, channels] of 0 to 1.
        hp: `flip`, `shift` in pixels, `erasing` as a share of the images, `cutout` as a share of
            the sides.
    """
    flip = hp.Boolean("flip", default=True)
    shift = hp.Int("shift", 0, 4, default=2)
    erasing = hp.Float("erasing", 0.0, 0.6, step=0.1)
    cutout = hp.Float("cutout", 0.0, 0.5, step=0.1)
    height, width = x.shape[1:3]
    if flip:
        x = layers.RandomFlip("horizontal")(x)
    if shift:
        x = layers.RandomTranslation(
            (-shift / height, shift / height),
            (-shift / width, shift / width),
            fill_mode="constant",
            interpolation="nearest",
        )(x)
    if erasing:
        x = layers.RandomErasing((erasing, erasing), scale=_ERASED, value_range=(0, 1))(x)
    if cutout:
        x = layers.RandomErasing((1.0, 1.0), scale=(cutout, cutout), fill_value=0.0)(x)
    return x
