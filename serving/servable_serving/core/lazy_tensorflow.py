"""Imports TensorFlow without the parts that a server does not use."""

from __future__ import annotations

import gc
import importlib
import os
import sys
import threading
from typing import Any

# TensorFlow imports Keras, for the optimizers of models that `tf.saved_model.load` restores, and
# TFLite's converter imports JAX if it is installed. Both are optional: TensorFlow skips them
# silently if they are missing. With them an import takes twice the time and 1.5 times the memory.
_UNUSED = ("keras", "jax")

_quiet = threading.Event()


def quiet_tensorflow() -> None:
    """Suppress TensorFlow's messages at import; call it before the first import.

    They report processor features and drivers; failures raise exceptions. Only for the entry
    point of a command, since it affects the whole process.
    """
    _quiet.set()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def is_quiet() -> bool:
    """Whether `quiet_tensorflow` was called."""
    return _quiet.is_set()


def import_tensorflow() -> Any:
    """Import TensorFlow, quietly and without Keras, which can still be imported afterwards.

    Only for the entry point of a command: it hides modules from the whole process meanwhile.

    Returns:
        The module `tensorflow`.
    """
    quiet_tensorflow()
    if "tensorflow" in sys.modules:
        return sys.modules["tensorflow"]
    hidden = [name for name in _UNUSED if name not in sys.modules]
    # None marks a module that cannot be imported.
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    # An import creates no garbage, and collections would take a quarter of its time.
    collecting = gc.isenabled()
    gc.disable()
    try:
        tensorflow = importlib.import_module("tensorflow")
    finally:
        if collecting:
            gc.enable()
        for name in hidden:
            del sys.modules[name]
    # TensorFlow adds empty entries if it does not find Keras.
    tensorflow.__path__ = [path for path in tensorflow.__path__ if path]
    return tensorflow
