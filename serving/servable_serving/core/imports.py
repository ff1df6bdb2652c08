"""Imports of large libraries, and of modules that a user names."""

from __future__ import annotations

import gc
import importlib
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType


@contextmanager
def collection_paused() -> Iterator[None]:
    """Import without garbage collection, which takes a quarter of the time of a large import.

    An import creates hardly any garbage, and each full collection scans all that was imported.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def user_module(name: str) -> ModuleType:
    """Import a module that a user names, as a program in the working directory would.

    Args:
        name: `package.module`, or the path of its file from there.

    Raises:
        Exception: Whatever the module raises.
    """
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    return importlib.import_module(name.removesuffix(".py").replace("/", "."))
