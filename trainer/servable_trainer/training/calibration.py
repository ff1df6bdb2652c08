"""Temperature scaling: make a network's probabilities match its accuracy.

Label smoothing leaves a network underconfident, and training without it overconfident. One number
corrects most of either: a temperature that the logits are divided by (Guo et al. 2017,
https://arxiv.org/abs/1706.04599). It is fitted to images that were not trained on and becomes part
of the last layer's weights: the ranking of the classes does not change, and serving needs to know
nothing of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from servable_trainer.scoring.metrics import fit_temperature

if TYPE_CHECKING:
    import keras

    from servable_trainer.data.dataset import Pictures

# With fewer images the estimate is too noisy, and if all are classified correctly the optimum is a
# temperature of 0.
_FEWEST = 200
_RANGE = (0.25, 4.0)
_BATCH = 512


def find_temperature(network: keras.Model, pictures: Pictures | None) -> float | None:
    """Fit a temperature to images that `network` was not trained on.

    Returns:
        From 0.25 to 4; None if there are fewer than 200 images.
    """
    if pictures is None or len(pictures) < _FEWEST:
        return None
    probabilities = network.predict(pictures.images, batch_size=_BATCH, verbose=0)
    found = fit_temperature(pictures.targets, np.asarray(probabilities))
    return float(np.clip(found, *_RANGE))


def apply_temperature(network: keras.Model, temperature: float) -> None:
    """Divide a network's logits by `temperature`, in the weights of its last layer.

    Args:
        network: Must end in a dense layer with a softmax, as all of `ImageClassifier` do.
        temperature: 1 changes nothing; its inverse undoes it.
    """
    last = network.layers[-1]
    last.set_weights([weight / np.float32(temperature) for weight in last.get_weights()])
