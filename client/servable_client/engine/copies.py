"""What a copy of a client is made of: its arguments, in a pickle without secrets."""

from __future__ import annotations

import inspect
import sys
from functools import partial
from types import FunctionType, MethodType
from typing import Any

from servable_client._errors import InvalidInput
from servable_client.net.proxies import without_password

# Modules that copy functions as they are, or store them by value: a part of Ray, Spark and joblib
# has the same name.
_TAKE_ANY_FUNCTION = frozenset({"copy", "cloudpickle", "cloudpickle_fast", "_dill"})


class Arguments(dict[str, Any]):
    """The arguments of a client by name; their repr does not show the secrets."""

    def __repr__(self) -> str:
        return "Arguments(...)"


def without_secrets(arguments: Arguments) -> tuple[Arguments, tuple[str, ...]]:
    """The arguments without secrets that are given as values, and the names of these."""
    kept, left_out = Arguments(arguments), []
    for name in ("api_key", "token"):
        if isinstance(kept[name], str):
            kept[name] = None
            left_out.append(name)
    if kept["proxy"] is not None:
        kept["proxy"] = without_password(kept["proxy"])
        if kept["proxy"] != arguments["proxy"]:
            left_out.append("proxy")
    return kept, tuple(left_out)


def check_importable(argument: str, value: object) -> None:
    """Check that pickle, which stores where to import a function from, can store this one.

    A pickler that takes any function, such as cloudpickle, decides itself.

    Raises:
        InvalidInput: It is a lambda, or is defined within a function.
    """
    if isinstance(value, partial):
        for part in (value.func, *value.args, *value.keywords.values()):
            check_importable(argument, part)
        return
    place: Any = value
    if isinstance(value, MethodType):
        place = value.__self__ if isinstance(value.__self__, type) else type(value.__self__)
    elif not isinstance(value, FunctionType):
        place = type(value)
    if not _is_importable(place) and not _takes_any_function():
        raise InvalidInput(
            f"`{argument}` cannot be pickled: {place.__module__}.{place.__qualname__} "
            "cannot be imported",
            hint="define it at the top level of a module, or pickle with cloudpickle",
        )


def _is_importable(place: Any) -> bool:
    if not isinstance(place, FunctionType):
        # Not all classes of the interpreter are where they say; pickle knows these.
        return "<locals>" not in place.__qualname__
    found: Any = sys.modules.get(place.__module__)
    for part in place.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is place


def _takes_any_function() -> bool:
    """Whether the caller that asks for the state of an object takes any function."""
    frame = inspect.currentframe()
    while frame is not None:
        if str(frame.f_globals.get("__name__")).rpartition(".")[2] in _TAKE_ANY_FUNCTION:
            return True
        frame = frame.f_back
    return False
