"""TensorFlow, imported without what a server has no use for."""

from __future__ import annotations

import gc
import importlib
import os
import sys
import threading
from typing import Any

# TensorFlow imports Keras as it is imported itself, for the optimizers of models that
# `tf.saved_model.load` brings back, and the converter of TFLite imports JAX where there is one.
# Both are left out without a word where they are missing; with them an import takes twice the
# time and half as much memory again.
_UNUSED = ("keras", "jax")

_quiet = threading.Event()


def quiet_tensorflow() -> None:
    """Keep TensorFlow's remarks on start to itself; call it before its first import.

    They report processor features and drivers; what goes wrong comes as an exception. For the
    entry of a command alone: it is the whole process that is quiet from then on.
    """
    _quiet.set()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def is_quiet() -> bool:
    """Whether the command that runs asked for quiet."""
    return _quiet.is_set()


def import_tensorflow() -> Any:
    """Import TensorFlow, quietly and without Keras, which can still be imported afterwards.

    For the entry of a command alone: it hides modules from the whole process meanwhile.

    Returns:
        The module `tensorflow`.
    """
    quiet_tensorflow()
    if "tensorflow" in sys.modules:
        return sys.modules["tensorflow"]
    hidden = [name for name in _UNUSED if name not in sys.modules]
    # None stands for a module that cannot be imported.
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    # Nothing of what an import makes is garbage: to look for some takes a quarter of the time.
    collecting = gc.isenabled()
    gc.disable()
    try:
        tensorflow = importlib.import_module("tensorflow")
    finally:
        if collecting:
            gc.enable()
        for name in hidden:
            del sys.modules[name]
    # Where Keras was not found there are gaps.
    tensorflow.__path__ = [path for path in tensorflow.__path__ if path]
    return tensorflow
