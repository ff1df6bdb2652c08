"""The devices that a training is spread over."""

from __future__ import annotations

import keras


def spread() -> int:
    """Let every batch be divided among all accelerators, and say how many there are.

    Under JAX, by `keras.distribution.DataParallel`; Keras knows no such thing for TensorFlow,
    which takes one. A distribution that a program has set up itself is left as it is.
    """
    if keras.backend.backend() != "jax":
        return 1
    distribution = keras.distribution.distribution()
    if distribution is None:
        devices = keras.distribution.list_devices()
        if len(devices) < 2:
            return 1
        distribution = keras.distribution.DataParallel(devices=devices)
        keras.distribution.set_distribution(distribution)
    return int(distribution.device_mesh.devices.size)
