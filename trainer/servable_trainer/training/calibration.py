"""Calibration: a network's probabilities are made to mean what they say.

Label smoothing leaves a network less sure than it may be, and none leaves it surer. One number
mends most of either, a temperature that the logits are divided by (Guo et al. 2017,
https://arxiv.org/abs/1706.04599). It is fitted to pictures that were not learnt from and becomes
part of the last layer's weights: so the order of the classes stays as it is, and nothing has to be
remembered where the network is served.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from servable_trainer.scoring.metrics import fit_temperature

if TYPE_CHECKING:
    import keras

    from servable_trainer.data.dataset import Pictures

# With fewer pictures chance has too much of a say, and where all are named rightly the best
# temperature would be none at all.
_FEWEST = 200
_RANGE = (0.25, 4.0)
_BATCH = 512


def find_temperature(network: keras.Model, pictures: Pictures | None) -> float | None:
    """The temperature that fits `network` best to pictures that it has not learnt from.

    Returns:
        Between a quarter and 4; None where there are fewer than 200 pictures.
    """
    if pictures is None or len(pictures) < _FEWEST:
        return None
    probabilities = network.predict(pictures.images, batch_size=_BATCH, verbose=0)
    found = fit_temperature(pictures.targets, np.asarray(probabilities))
    return float(np.clip(found, *_RANGE))


def cool(network: keras.Model, temperature: float) -> None:
    """Have a network divide its logits by `temperature`, by the weights of its last layer.

    Args:
        network: It ends in a dense layer with a softmax, as every one of `ImageClassifier` does.
        temperature: 1 changes nothing; its inverse undoes it.
    """
    last = network.layers[-1]
    last.set_weights([weight / np.float32(temperature) for weight in last.get_weights()])
