"""API keys: files of `name:key` lines."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from servable_serving.gateway.errors import USAGE, GatewayError

if TYPE_CHECKING:
    from pathlib import Path

ADMIN_PREFIX = "admin/"
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SECRET = re.compile(r"[A-Za-z0-9._~+/=-]{16,256}")


class KeysError(GatewayError):
    """A file of keys cannot be used; the message never contains a key."""

    def __init__(self, message: str) -> None:
        super().__init__(message, exit_status=USAGE)


@dataclass(frozen=True)
class Key:
    """One key.

    Attributes:
        name: Whose it is; an administrator's begins with `admin/`.
        secret: What is sent.
    """

    name: str
    secret: str = field(repr=False)


@dataclass(frozen=True)
class Keys:
    """The keys in force.

    Attributes:
        api: Those of callers; without any, no request needs a key.
        admin: Those of administrators, who may also reload the servers' configuration.
    """

    api: tuple[Key, ...] = ()
    admin: tuple[Key, ...] = ()

    @property
    def all(self) -> tuple[Key, ...]:
        """The keys of both files."""
        return self.api + self.admin


def parse_keys(text: str, source: str, prefix: str = "") -> tuple[Key, ...]:
    """The keys of a file.

    Args:
        text: What is in it.
        source: Its name, for errors.
        prefix: Put before each name.

    Raises:
        KeysError: A line is invalid.
    """
    keys = []
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), start=1):
        if not line or line.startswith("#"):
            continue
        name, colon, secret = line.partition(":")
        if not colon or not _NAME.fullmatch(name):
            raise KeysError(f"line {number} of {source} is not a valid name:key")
        if not _SECRET.fullmatch(secret):
            raise KeysError(
                f"the key {name} of {source} is not 16 to 256 letters, digits and . _ ~ + / = -;"
                " generate one with `openssl rand -hex 24`"
            )
        keys.append(Key(prefix + name, secret))
    return tuple(keys)


class KeyStore:
    """The keys of two files, which may change while the gateway runs.

    Args:
        api_file: The file of the callers' keys; None or missing: no keys.
        admin_file: The file of the administrators'.
    """

    def __init__(self, api_file: Path | None, admin_file: Path | None) -> None:
        self._api_file, self._admin_file = api_file, admin_file
        self.current = Keys()

    def reload(self) -> None:
        """Read both files again.

        Raises:
            KeysError: They cannot be used, or hold no keys where there were some; the keys before
                stay in force.
        """
        api = _read(self._api_file, "")
        admin = _read(self._admin_file, ADMIN_PREFIX)
        _check_distinct(api + admin)
        # An emptied or missing file is a mistake, and must not open the gateway.
        if self.current.api and not api:
            raise KeysError(f"{self._api_file} has no keys any more; the previous ones stay valid")
        self.current = Keys(api, admin)


def _read(path: Path | None, prefix: str) -> tuple[Key, ...]:
    if path is None:
        return ()
    try:
        text = path.read_text()
    except (FileNotFoundError, NotADirectoryError):
        return ()
    except (OSError, ValueError):
        raise KeysError(f"the keys file {path} cannot be read") from None
    return parse_keys(text, str(path), prefix)


def _check_distinct(keys: tuple[Key, ...]) -> None:
    # nginx's maps ignore case.
    seen: dict[str, str] = {}
    for key in keys:
        if other := seen.get(key.secret.lower()):
            raise KeysError(f"the keys {key.name} and {other} are the same")
        seen[key.secret.lower()] = key.name
