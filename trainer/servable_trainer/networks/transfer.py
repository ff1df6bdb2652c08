"""Transfer learning from a pretrained network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import keras
from keras import layers

from servable_client import ServableError
from servable_trainer.networks.classifier import ImageClassifier

if TYPE_CHECKING:
    import keras_tuner

# MobileNet halves an image five times: below this its last stages would see a single pixel.
_SIDE = 96


class WeightsError(ServableError):
    """Weights are unavailable, or are those of another network."""


class TransferClassifier(ImageClassifier):
    """MobileNetV3Small (Howard et al. 2019, https://arxiv.org/abs/1905.02244) under a new head.

    Images are enlarged to at least 96 pixels a side, and grey ones repeated in three channels.

    Args:
        size: Height and width of an image, and 3 if it is in colour.
        classes: Number of classes.
        weights: "imagenet", which Keras downloads; a file of weights, as Keras names
            `weights_mobilenet_v3_small_224_1.0_float_no_top_v2.h5`; None for none.
    """

    def __init__(
        self,
        *,
        size: tuple[int, ...],
        classes: int,
        weights: str | None = None,
    ) -> None:
        super().__init__(size=size, classes=classes)
        self.weights = weights

    def features(self, x: keras.KerasTensor, hp: keras_tuner.HyperParameters) -> keras.KerasTensor:
        """Map images, float32 [N, height, width, channels] of 0 to 1, to features [N, 576]."""
        dropout = hp.Float("dropout", 0.0, 0.5, step=0.1, default=0.2)
        height, width, channels = x.shape[1:]
        side = max(_SIDE, height, width)
        if side > min(height, width):
            x = layers.Resizing(side, side, pad_to_aspect_ratio=True)(x)
        if channels == 1:
            x = layers.Concatenate()([x, x, x])
        x = layers.Rescaling(2.0, offset=-1.0)(x)
        backbone = self._backbone(side)
        return layers.Dropout(dropout)(backbone(x))

    def _backbone(self, side: int) -> keras.Model:
        if self.weights not in (None, "imagenet") and not Path(self.weights).is_file():
            raise WeightsError(
                f"{self.weights} is not a file", hint="give --weights imagenet, or a file"
            )
        try:
            return keras.applications.MobileNetV3Small(
                input_shape=(side, side, 3),
                include_top=False,
                include_preprocessing=False,
                pooling="avg",
                weights=self.weights,
            )
        except Exception as error:
            what = (
                "ImageNet's weights cannot be downloaded"
                if self.weights == "imagenet"
                else (f"{self.weights} does not hold weights of MobileNetV3Small without its top")
            )
            raise WeightsError(
                f"{what}: {str(error).splitlines()[0]}",
                hint="download them elsewhere and give the file with --weights FILE",
            ) from error
