"""The folder of a search: what it is, how long it took so far, and who works in it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import shutil
import time
from typing import TYPE_CHECKING, Any

from servable_serving.core.files import atomic_write
from servable_trainer.tuning.trials import TuneError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_RECORD, _LOCK, _TRIALS = "search.json", ".lock", "search"
_RESULTS = ("trials.json", "trials.html")
# A process that is killed loses the count of as many seconds at most.
_TICK_SECONDS = 5.0


class SearchFolder:
    """A folder with one search, which it keeps other processes and other searches out of.

    Attributes:
        path: The folder.
        identity: What must be the same to go on: settings, data and code.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.identity: dict[str, Any] = {}
        self._before = 0.0
        self._began: float | None = None
        self._written = 0.0

    @property
    def trials(self) -> Path:
        """Where the oracle and the trials are."""
        return self.path / _TRIALS

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep other searches out for the length of the block.

        Raises:
            TuneError: Another process searches there, or the folder cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = (self.path / _LOCK).open("a")
        except OSError as error:
            raise TuneError(f"cannot write to {self.path}: {error.strerror}") from error
        with lock:
            try:
                # The system takes it from who was killed.
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise TuneError(
                    f"another process searches in {self.path}",
                    hint="wait for it, or name another folder with --output",
                ) from error
            yield

    def begin(self, identity: dict[str, Any], *, overwrite: bool) -> None:
        """Begin the search, or go on with it.

        Args:
            identity: What must be the same to go on: objects of values that JSON can hold.
            overwrite: Take away what is there; files that no search wrote stay.

        Raises:
            TuneError: What is there is another search, which is kept; or nothing can be written.
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
            record = json.loads((self.path / _RECORD).read_text())
            before, self._before = record["search"], float(record["seconds"])
        except FileNotFoundError:
            if not self.trials.exists():
                return
            raise self._refusal("it does not say of what") from None
        except (ValueError, KeyError, TypeError) as error:
            raise self._refusal("its record is damaged") from error
        if found := differences(before, identity):
            raise self._refusal("; ".join(found))

    def _refusal(self, why: str) -> TuneError:
        return TuneError(
            f"{self.path} holds another search, which is kept: {why}",
            hint="--overwrite begins anew, or name another folder with --output",
        )

    @property
    def seconds(self) -> float:
        """How long it was searched, by every process that did."""
        return self._before + (0.0 if self._began is None else time.monotonic() - self._began)

    def start_clock(self) -> None:
        """Count from now on; a second call changes nothing."""
        if self._began is None:
            self._began = time.monotonic()

    def tick(self) -> None:
        """Write down the time once in a while; where that fails, so will what matters more."""
        if time.monotonic() - self._written > _TICK_SECONDS:
            with contextlib.suppress(OSError):
                self._write()

    def stop_clock(self) -> None:
        """Count no longer."""
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
    """What differs between two searches, each in a few words."""
    # Digests tell nobody anything.
    digests = {
        "checksums": "the data's content",
        "network": "the network's code",
        "space": "the space of hyperparameters",
    }
    words = {"servable": "Servable's version"}
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
