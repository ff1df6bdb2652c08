"""A package whose `__init__` runs when it is needed, while its modules can be imported before."""

from __future__ import annotations

import importlib.util
import sys
import threading
from types import ModuleType
from typing import Any

_lock = threading.RLock()


class _LazyPackage(ModuleType):
    def __getattr__(self, name: str) -> Any:
        # Python's import system and inspection ask for optional ones.
        if name.startswith("__") and name.endswith("__") and name != "__version__":
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        with _lock:
            if type(self) is _LazyPackage:
                # Python allows to change the class of a module, from and to a subclass.
                object.__setattr__(self, "__class__", ModuleType)
                spec = self.__spec__
                assert spec is not None
                assert spec.loader is not None
                spec.loader.exec_module(self)
        return getattr(self, name)


def defer_init(name: str) -> None:
    """Put a package into `sys.modules` without running its `__init__`.

    The first use of an attribute that is not one of its imported modules runs it.
    `importlib.util.LazyLoader` is not for packages: an import of a submodule would run it.

    Args:
        name: Name of a package that has not been imported.

    Raises:
        ModuleNotFoundError: There is no such package.
    """
    spec = importlib.util.find_spec(name)
    if spec is None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    package = importlib.util.module_from_spec(spec)
    object.__setattr__(package, "__class__", _LazyPackage)
    sys.modules[name] = package
