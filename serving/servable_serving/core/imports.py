"""Imports of large libraries, and of modules that a user names."""

from __future__ import annotations

import gc
import importlib
import sys
import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from servable_client import ServableError
from servable_serving.core.errors import UserCodeError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

_IMPORT_HINT = "name it as in `from MODULE import NAME`, from the working directory"
# Servable's own three packages, which need not be installed.
_PACKAGES = tuple(
    str(Path(__file__).parents[3] / part) for part in ("client", "serving", "trainer")
)


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


def user_object(place: str) -> Any:
    """What MODULE:NAME names, in a module that `user_module` imports.

    Raises:
        UserCodeError: It has another form, or cannot be imported.
    """
    module, _, name = place.partition(":")
    if not (module and name):
        raise UserCodeError(
            f"{place!r} is not MODULE:NAME", hint="for example my_package.mine:NAME"
        )
    with user_code(place, "cannot be imported", hint=_IMPORT_HINT):
        return getattr(user_module(module), name)


@contextmanager
def user_code(what: str, failed: str = "failed", *, hint: str | None = None) -> Iterator[None]:
    """Report an exception of a user's code as an error of ours, in one sentence with its place.

    Args:
        what: The code: a function's name, for example.
        failed: What it did not do.
        hint: What to do about it.

    Raises:
        ServableError: As it was.
        UserCodeError: In place of any other exception.
    """
    try:
        yield
    except ServableError:
        raise
    except Exception as error:
        lines = str(error).strip().splitlines() or [""]
        said = f"{type(error).__name__}: {lines[0][:200]}".rstrip(": ")
        raise UserCodeError(f"{what} {failed}: {said}{_place(error)}", hint=hint) from error


def _place(error: Exception) -> str:
    """Where in the user's own files an exception came from, if it did."""
    here = str(Path.cwd())
    frames = traceback.extract_tb(error.__traceback__)
    own = [one for one in frames if one.filename.startswith(here) and not _installed(one.filename)]
    return f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""


def _installed(file: str) -> bool:
    return "site-packages" in file or file.startswith(_PACKAGES)
