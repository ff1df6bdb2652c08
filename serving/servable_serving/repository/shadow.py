"""models.shadow: the requests that the gateway mirrors to a version whose answers nobody gets.

One line a model, `MODEL VERSION NAME AGAINST PERCENT UNTIL`: the version on trial, the model's name
by which it is asked, the version in service that answers the requests, the share of them, and the
end in seconds since 1970; `#` begins a comment. The gateway reads it once a second, and does not
mirror beyond the end: a trial ends even if its process has died.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from servable_client import ServableError
from servable_serving.core.errors import FolderError
from servable_serving.core.files import atomic_write, read_lines, remove_leftovers
from servable_serving.core.locks import locked

if TYPE_CHECKING:
    from pathlib import Path

NAME = "models.shadow"
_LOCK = f".{NAME}.lock"
_HEAD = """\
# What the gateway mirrors, and until when: MODEL VERSION NAME AGAINST PERCENT UNTIL.
# Written by `servable shadow` and `servable canary`.
"""
_LINE = re.compile(
    r"(?P<model>[A-Za-z0-9._-]+) (?P<version>[0-9]{1,19}) (?P<name>[A-Za-z0-9._-]+) "
    r"(?P<against>[0-9]{1,19}) "
    r"(?P<percent>[0-9.]{1,8}) (?P<until>[0-9]{1,12})"
)


class ShadowError(ServableError):
    """models.shadow cannot be read, or is not valid."""


@dataclass(frozen=True, kw_only=True, order=True)
class Shadow:
    """One line of the file.

    Attributes:
        version: The version that is asked without a client.
        name: The model's name by which it is asked; see `shadow_name`.
        against: The version that answers the clients.
        percent: The share of the requests that is mirrored, above 0 and at most 100.
        until: The end, in seconds since 1970.
    """

    version: int
    name: str
    against: int
    percent: float
    until: int

    @classmethod
    def read(cls, line: str) -> tuple[str, Self]:
        """A model and its line.

        Raises:
            ValueError: It is not valid.
        """
        found = _LINE.fullmatch(line)
        if found is None:
            raise ValueError(line)
        percent = float(found["percent"])
        if not 0 < percent <= 100:
            raise ValueError(line)
        return found["model"], cls(
            version=int(found["version"]),
            name=found["name"],
            against=int(found["against"]),
            percent=percent,
            until=int(found["until"]),
        )


def read_shadows(models_root: Path) -> dict[str, Shadow]:
    """What is mirrored of each model; empty without the file.

    Raises:
        ShadowError: It cannot be read, or a line is not valid.
    """
    path = models_root / NAME
    shadows = {}
    for line in read_lines(path, ShadowError):
        try:
            model, shadow = Shadow.read(line)
        except ValueError:
            raise ShadowError(
                f"{path}: {line!r} is not a valid MODEL VERSION NAME AGAINST PERCENT UNTIL",
                hint=f"remove {path}: the next `servable shadow` writes it again",
            ) from None
        shadows[model] = shadow
    return shadows


def write_shadow(models_root: Path, model: str, shadow: Shadow | None) -> None:
    """Set what is mirrored of a model; other models keep theirs.

    Args:
        models_root: The folder with models.config.
        model: The model's name.
        shadow: What is mirrored; None for nothing.

    Raises:
        FolderError: The file cannot be written.
    """
    path = models_root / NAME
    with locked(models_root / _LOCK):
        try:
            shadows = read_shadows(models_root)
        except ShadowError:
            shadows = {}  # an invalid file is replaced
        shadows.pop(model, None)
        if shadow is not None:
            shadows[model] = shadow
        try:
            remove_leftovers(path)  # the lock is ours
            if not shadows:
                path.unlink(missing_ok=True)
                return
            lines = [
                f"{name} {one.version} {one.name} {one.against} {one.percent:g} {one.until}\n"
                for name, one in sorted(shadows.items())
            ]
            atomic_write(path, _HEAD + "".join(lines), durable=True)
        except OSError as error:
            raise FolderError(f"cannot write {path}: {error.strerror}") from error
