"""Imports the parts of TensorFlow that load and run SavedModels, without its public API.

`tensorflow/__init__.py` imports 3,400 modules, Keras among them, of which a server uses none. They
take four fifths of the time of an import and half of its memory.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
from pathlib import Path

from servable_serving.core.imports import collection_paused
from servable_serving.core.lazy_package import defer_init

_NAME = "tensorflow"
_RUNTIME = ("python.client.session", "python.saved_model.loader_impl")

# Variables that name such plugins.
_PLUGINS = ("TF_PLUGGABLE_DEVICE_LIBRARY_PATH", "TF_USE_MODULAR_FILESYSTEM")

# Gives each session threads of its own for its ops, in place of those that the first session of a
# process configures for all: `OverrideGlobalThreadPoolFromEnvironment` in TensorFlow 2.20's
# common_runtime/local_device.cc.
_SESSION_THREADS = "TF_OVERRIDE_GLOBAL_THREADPOOL"

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


def has_session_threads() -> bool:
    """Whether each session has the threads that it was configured with."""
    return os.environ.get(_SESSION_THREADS) == "1"


def import_tensorflow_runtime() -> None:
    """Import what loads and runs SavedModels, quietly; the public API at its first use.

    Only for the entry point of a command, since it affects the whole process. Elsewhere, importing
    one of TensorFlow's modules imports all of it, with the same result.
    """
    quiet_tensorflow()
    os.environ.setdefault(_SESSION_THREADS, "1")
    with collection_paused():
        if _NAME not in sys.modules and not has_plugins():
            defer_init(_NAME)
            # As __init__ does before its other imports, whose defaults depend on it.
            importlib.import_module(f"{_NAME}.python.tf2").enable()
        for name in _RUNTIME:
            importlib.import_module(f"{_NAME}.{name}")


def library_version() -> str:
    """TensorFlow's version; its distribution has several names: tensorflow, tensorflow-cpu, ..."""
    import_tensorflow_runtime()
    return str(importlib.import_module(f"{_NAME}.python.framework.versions").VERSION)


def has_plugins() -> bool:
    """Whether `__init__` would load devices or file systems of other packages."""
    return any(os.environ.get(name) for name in _PLUGINS) or any(
        Path(folder, "tensorflow-plugins").is_dir() for folder in sys.path
    )
