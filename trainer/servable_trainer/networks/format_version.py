"""The version of the algorithm; a training or search resumes only with the same one."""

from __future__ import annotations

import hashlib

import keras

# Raise it with every change after which the same seed and hyperparameters give other weights:
# in augmentation, batches, classifier, optimizer, transfer, or the training loop.
FORMAT_VERSION = 1


def code_digest() -> str:
    """A digest of what a result depends on besides its arguments: our algorithm and Keras'."""
    return hashlib.sha256(f"{FORMAT_VERSION} {keras.__version__}".encode()).hexdigest()
