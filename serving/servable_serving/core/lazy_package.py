"""A package whose `__init__` runs when it is needed, while its modules can be imported before."""

from __future__ import annotations

import importlib.util
import sys
import threading
from types import ModuleType
from typing import Any

_lock = threading.RLock()
# Names of the packages whose `__init__` is running; only the thread that holds the lock sees one.
_running: set[str] = set()


class _LazyPackage(ModuleType):
    def __getattr__(self, name: str) -> Any:
        # Python's import system and inspection ask for optional ones.
        optional = name.startswith("__") and name.endswith("__") and name != "__version__"
        # Other threads wait until it has run; what it asks of the package itself is not there yet.
        with _lock:
            if optional or self.__name__ in _running:
                raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
            if type(self) is _LazyPackage:
                _initialize(self)
        return getattr(self, name)


def _initialize(package: ModuleType) -> None:
    spec = package.__spec__
    assert spec is not None
    assert spec.loader is not None
    _running.add(package.__name__)
    try:
        spec.loader.exec_module(package)
    finally:
        _running.discard(package.__name__)
    # Python allows to change the class of a module, from and to a subclass.
    object.__setattr__(package, "__class__", ModuleType)


def defer_init(name: str) -> None:
    """Put a package into `sys.modules` without running its `__init__`.

    The first use of an attribute that is not one of its imported modules runs it.
    `importlib.util.LazyLoader` is not for packages: an import of a submodule would run it.

    Args:
        name: Name of a package that has not been imported.

    Raises:
        ModuleNotFoundError: The package is not installed.
    """
    spec = importlib.util.find_spec(name)
    if spec is None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    package = importlib.util.module_from_spec(spec)
    object.__setattr__(package, "__class__", _LazyPackage)
    sys.modules[name] = package
