"""The directory of a search: its identity, its duration so far, and its lock."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from typing import TYPE_CHECKING, Any

from servable_serving.core.errors import FolderError
from servable_serving.core.files import atomic_write
from servable_serving.core.json_text import parse_json
from servable_serving.core.locks import locked_if_free
from servable_trainer.tuning.trials import TuneError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_RECORD, _LOCK, _TRIALS = "search.json", ".lock", "search"
_RESULTS = ("trials.json", "trials.html")
# At most so much time is lost when the process is killed.
_TICK_SECONDS = 5.0


class SearchFolder:
    """A directory with one search, locked against other processes and other searches.

    Attributes:
        path: The directory.
        identity: What must be the same to resume: settings, data and code.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.identity: dict[str, Any] = {}
        self._before = 0.0
        self._began: float | None = None
        self._written = 0.0

    @property
    def trials(self) -> Path:
        """The directory of the oracle and the trials."""
        return self.path / _TRIALS

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the directory's lock.

        Raises:
            TuneError: Another process is searching there, or the directory cannot be written.
        """
        with contextlib.ExitStack() as stack:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                free = stack.enter_context(locked_if_free(self.path / _LOCK))
            except OSError as error:
                raise TuneError(f"cannot write to {self.path}: {error.strerror}") from error
            except FolderError as error:
                raise TuneError(str(error)) from error
            if not free:
                raise TuneError(
                    f"another process is searching in {self.path}",
                    hint="wait for it, or choose another directory with --output",
                )
            yield

    def begin(self, identity: dict[str, Any], *, overwrite: bool) -> None:
        """Start or resume the search.

        Args:
            identity: What must be the same to resume; representable in JSON.
            overwrite: Discard an existing search; files of other origin stay.

        Raises:
            TuneError: The directory holds another search, or cannot be written.
        """
        identity = json.loads(json.dumps(identity))
        try:
            if overwrite:
                shutil.rmtree(self.trials, ignore_errors=True)
                for name in (_RECORD, *_RESULTS):
                    (self.path / name).unlink(missing_ok=True)
            self._check(identity)
            self.identity = identity
            self._write()
        except OSError as error:
            raise TuneError(f"cannot write to {self.path}: {error.strerror}") from error

    def _check(self, identity: dict[str, Any]) -> None:
        try:
            record = parse_json((self.path / _RECORD).read_text())
            before, self._before = record["search"], float(record["seconds"])
        except FileNotFoundError:
            if not self.trials.exists():
                return
            raise self._refusal("its record is missing") from None
        except (ValueError, KeyError, TypeError) as error:
            raise self._refusal("its record is damaged") from error
        if found := differences(before, identity):
            raise self._refusal("; ".join(found))

    def _refusal(self, why: str) -> TuneError:
        return TuneError(
            f"{self.path} holds another search: {why}",
            hint="discard it with --overwrite, or choose another directory with --output",
        )

    @property
    def seconds(self) -> float:
        """Duration of the search, all processes added up."""
        return self._before + (0.0 if self._began is None else time.monotonic() - self._began)

    def start_clock(self) -> None:
        """Start counting; a second call changes nothing."""
        if self._began is None:
            self._began = time.monotonic()

    def tick(self) -> None:
        """Save the duration every few seconds; if that fails, so will what matters more."""
        if time.monotonic() - self._written > _TICK_SECONDS:
            with contextlib.suppress(OSError):
                self._write()

    def stop_clock(self) -> None:
        """Stop counting."""
        self._before, self._began = self.seconds, None
        with contextlib.suppress(OSError):
            self._write()

    def _write(self) -> None:
        self._written = time.monotonic()
        record = {"format": 1, "search": self.identity, "seconds": round(self.seconds, 1)}
        atomic_write(self.path / _RECORD, json.dumps(record, indent=2) + "\n")


def differences(
    there: dict[str, Any], here: dict[str, Any], *, places: tuple[str, str] = ("there", "here")
) -> list[str]:
    """The differences between two searches, each in a few words."""
    # Digests mean nothing to a reader.
    digests = {
        "checksums": "the content of the data",
        "network": "the code of the network",
        "space": "the space of hyperparameters",
        "module": "the code of the module of the network",
    }
    words = {"servable": "the version of Servable"}
    found = []
    for part in sorted({*there, *here}):
        one, other = there.get(part) or {}, here.get(part) or {}
        for key in sorted({*one, *other}):
            a, b = one.get(key), other.get(key)
            if a == b:
                continue
            if key in digests:
                found.append(digests[key])
            else:
                found.append(
                    f"{words.get(key, key)} {_said(a)} {places[0]}, {_said(b)} {places[1]}"
                )
    return found


def _said(value: Any) -> str:
    if value is None:
        return "not set"
    if isinstance(value, dict):
        return ", ".join(f"{name}={one}" for name, one in value.items()) or "none"
    return str(value)
