"""The versions of a model: which are loaded, and which one answers.

The rules are those of TensorFlow Serving's AspiredVersionsManager with its
AvailabilityPreservingPolicy: a version that is aspired to is loaded while those that are not go
on serving, which are dropped only when one that is aspired to is available and the last request
that they were given has ended; a version that fails to load leaves them serving.
"""

from __future__ import annotations

import gc
import logging
import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from servable_serving.core.errors import ModelError
from servable_serving.repository.layout import version_folders
from servable_serving.server.lifecycle.scheduler import Scheduler, ThreadScheduler
from servable_serving.server.lifecycle.version import Version

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Executor
    from pathlib import Path
    from threading import Condition

    from servable_client import VersionStatus
    from servable_serving.server.config import ModelSettings
    from servable_serving.server.runtime.model import Load, Model

_log = logging.getLogger("servable.serving")


class ModelManager:
    """Keeps the aspired versions of one model loaded.

    Args:
        settings: The model.
        load: Loads a version.
        executor: Where loads run, so that nothing waits for them.
        changed: Guards all that changes, over a reentrant lock, and is notified of it.
        max_load_retries: How often a failed load is retried.
        load_retry_seconds: The interval between retries.
        scheduler: Where unloads and retries run.
    """

    def __init__(
        self,
        settings: ModelSettings,
        *,
        load: Load,
        executor: Executor,
        changed: Condition,
        max_load_retries: int = 0,
        load_retry_seconds: float = 60.0,
        scheduler: Scheduler | None = None,
    ) -> None:
        self.settings = settings
        self._load_model = load
        self._executor = executor
        self._max_load_retries = max_load_retries
        self._load_retry_seconds = load_retry_seconds
        self._scheduler = scheduler or ThreadScheduler()
        self._lock = changed
        self._managed: dict[int, Version] = {}
        # Every version that ever existed, for the status; the newest of each number.
        self._seen: dict[int, Version] = {}
        self._awaited: list[Version] = []  # versions found since the model was added
        # The versions to aspire to once those of them that are not aspired to are unloaded.
        self._postponed: dict[int, Path] | None = None
        self._trouble: str | None = None  # logged last; not repeated at every poll
        self._served = True
        self._closed = False

    @property
    def name(self) -> str:
        """The model's name."""
        return self.settings.name

    # Requests.

    @contextmanager
    def model(self, number: int | None = None) -> Iterator[tuple[int, Model]]:
        """An available version, and its number; it stays loaded while the block lasts.

        Args:
            number: The version; the highest available one unless given.

        Raises:
            ModelError: It is not available; `code` is NOT_FOUND.
        """
        with self._lock:
            version = max(
                (
                    v
                    for v in self._managed.values()
                    if v.state == "AVAILABLE" and number in (None, v.number)
                ),
                key=lambda v: v.number,
                default=None,
            )
            if version is None or not version.acquire():
                raise not_found(self.name, number)
        with version.used() as model:
            yield version.number, model

    def status(self, number: int | None = None) -> list[VersionStatus]:
        """Every version that ever existed, highest first, or one of them.

        Raises:
            ModelError: There is none; `code` is NOT_FOUND.
        """
        with self._lock:
            found = [
                self._seen[seen].status()
                for seen in sorted(self._seen, reverse=True)
                if number in (None, seen)
            ]
        if not found:
            raise unknown(self.name, number)
        return found

    def is_available(self, number: int | None = None) -> bool:
        """Whether a version, or any, answers requests."""
        with self._lock:
            return any(
                v.state == "AVAILABLE" and number in (None, v.number)
                for v in self._managed.values()
            )

    def trouble(self) -> str | None:
        """Why the last look found no version, or not every configured one."""
        return self._trouble

    def is_beginning(self) -> bool:
        """Whether a version waits for the end of its first load."""
        with self._lock:
            return any(
                v.state in {"START", "LOADING"} and not v.attempts for v in self._managed.values()
            )

    def outcome(self) -> Version | None:
        """The highest version since the model was added that is available or has failed."""
        with self._lock:
            settled = [v for v in self._awaited if v.settled]
            return max(settled, key=lambda v: v.number, default=None)

    # Configuration and polling.

    def look(self, *, unload: bool = True) -> None:
        """List the versions, and start the loads and unloads that the policy requires.

        Args:
            unload: Whether to unload versions, too.
        """
        before, trouble = self._trouble, None
        settings = self.settings
        try:
            folders = version_folders(settings.base_path)
        except OSError as error:
            # An unreadable folder does not mean that its versions are gone: keep what is loaded.
            trouble = f"cannot list {settings.base_path}: {error.strerror or error}"
        else:
            selected = settings.policy.select(folders)
            aspired = {number: path for number, path in folders.items() if number in selected}
            if not folders:
                trouble = (
                    f"no version folder under {settings.base_path}; folders are named by a number"
                )
            elif settings.policy.specific is not None and not settings.policy.specific:
                trouble = "the policy `specific` names no version"
            elif missing := sorted((settings.policy.specific or set()) - set(aspired)):
                trouble = f"configured versions {missing} do not exist"
            with self._lock:
                # Not if the model was changed or removed while the folder was listed.
                if self.settings is settings and self._served:
                    self._aspire(aspired, unload=unload)
        self._trouble = trouble
        if trouble and trouble != before:
            _log.warning("%s: %s", self.name, trouble, extra={"model": self.name})

    def add(self, settings: ModelSettings) -> None:
        """Serve the model again, after `remove`."""
        with self._lock:
            self.settings = settings
            self._served = True
            # Versions that are not unloaded yet stay, and count as loaded for this addition.
            self._awaited = [
                v for v in self._managed.values() if v.state in {"START", "LOADING", "AVAILABLE"}
            ]

    def remove(self) -> None:
        """Unload every version, until `add`."""
        with self._lock:
            self._served = False
            self._aspire({})

    def _aspire(self, folders: dict[int, Path], *, unload: bool = True) -> None:
        """Set the aspired versions: load what is missing, unload the others."""
        with self._lock:
            if self._closed:
                return
            self._postponed = None
            if any(number in folders and not v.aspired for number, v in self._managed.items()):
                # As in TensorFlow Serving: a version that is aspired to again must be gone first.
                # Where it serves in place of one that failed, that is not until another loads.
                self._postponed = folders
                return
            for number, version in list(self._managed.items()):
                if number in folders or (version.aspired and not unload):
                    continue
                version.aspired = False
                if version.retry is not None:
                    version.retry.cancel()
                    version.retry = None
                    self._fail(version)
                if version.state in {"START", "END"}:
                    self._forget(version)
            for number in sorted(folders):
                if number not in self._managed:
                    self._begin(number, folders[number])
            self._step()

    def _resume(self) -> None:
        """Set the aspired versions that were postponed; the lock is held."""
        if self._postponed is not None:
            self._aspire(self._postponed)

    def _begin(self, number: int, folder: Path) -> None:
        version = Version(number, folder, changed=self._drained)
        self._managed[number] = self._seen[number] = version
        self._awaited.append(version)

    def close(self, grace: float) -> None:
        """Unload every version, and wait up to `grace` seconds for their last requests."""
        with self._lock:
            self.remove()
            self._closed = True
            self._lock.wait_for(self.is_empty, grace)

    def is_empty(self) -> bool:
        """Whether no version is in memory."""
        return not any(v.state in {"AVAILABLE", "UNLOADING"} for v in self._managed.values())

    def _step(self) -> None:
        """Start the loads and unloads that are due; the lock is held."""
        versions = self._managed.values()
        ready = any(v.aspired and v.state == "AVAILABLE" for v in versions)
        aspired = any(v.aspired for v in versions)
        others = [v for v in versions if not v.aspired and v.state == "AVAILABLE"]
        if aspired and not ready:
            # Keep one old version serving until an aspired one is available.
            others = sorted(others, key=lambda v: v.number)[:-1]
        for version in others:
            self._set(version, "UNLOADING")
            # No new request gets it from here on, and the last of those that have it starts the
            # unload, so that a long one blocks nothing else.
            version.drain()
        for version in sorted(versions, key=lambda v: -v.number):
            if version.aspired and version.state == "START":
                self._set(version, "LOADING")
                self._executor.submit(self._load, version)

    def _load(self, version: Version) -> None:
        began = time.monotonic()
        with self._lock:
            if not version.aspired or self._closed:
                # Removed while it was queued: later loads must not wait for it.
                self._fail(version)
                self._resume()
                self._step()
                return
        model = None
        try:
            model = self._load_model(self.name, version.number, version.folder)
        except Exception as error:  # noqa: BLE001
            # A version can be broken in any way: whatever it raises fails its own load, and neither
            # the server nor the version that is serving.
            # A new object: the traceback of `error` would keep the graph in memory with the status.
            failure = (
                ModelError(error.code or "UNKNOWN", error.message)
                if isinstance(error, ModelError)
                else ModelError("UNKNOWN", f"{type(error).__name__}: {error}")
            )
        with self._lock:
            if model is None:
                self._failed(version, failure)
            elif self._closed:
                model.close()
                self._fail(version)
            else:
                version.model = model
                version.error = None
                self._set(version, "AVAILABLE")
                seconds = time.monotonic() - began
                _log.info(
                    "%s: version %d is available, %d warm-up records, %.2f s",
                    self.name, version.number, model.warmup_records, seconds,
                    extra={"event": "load", "model": self.name, "version": version.number,
                           "seconds": round(seconds, 3)},
                )  # fmt: skip
            self._resume()
            self._step()

    def _failed(self, version: Version, failure: ModelError) -> None:
        version.attempts += 1
        version.error = failure
        again = version.attempts <= self._max_load_retries and version.aspired and not self._closed
        _log.error(
            "%s: version %d failed to load%s: %s",
            self.name, version.number,
            f"; retrying in {self._load_retry_seconds:g} s" if again else "", failure,
            extra={"event": "load_failed", "model": self.name, "version": version.number,
                   "code": failure.code, "attempt": version.attempts},
        )  # fmt: skip
        if not again:
            self._fail(version)
            return
        version.retry = self._scheduler.after(
            self._load_retry_seconds, partial(self._retry, version)
        )
        self._lock.notify_all()

    def _retry(self, version: Version) -> None:
        with self._lock:
            if version.retry is None:
                return
            version.retry = None
        self._executor.submit(self._load, version)

    def _fail(self, version: Version) -> None:
        self._set(version, "END")
        if not version.aspired:
            self._forget(version)

    def _drained(self, version: Version) -> None:
        # In the scheduler: neither the last request nor the poll may wait until memory is released,
        # and the process must not exit meanwhile.
        self._scheduler.run(partial(self._unload, version))

    def _unload(self, version: Version) -> None:
        model, version.model = version.model, None
        assert model is not None
        model.close()
        del model
        # A graph's objects refer to each other.
        gc.collect()
        with self._lock:
            self._set(version, "END")
            self._forget(version)
            self._resume()  # there may be no other poll
            _log.info(
                "%s: version %d is unloaded", self.name, version.number,
                extra={"event": "unload", "model": self.name, "version": version.number},
            )  # fmt: skip
            self._step()

    def _forget(self, version: Version) -> None:
        """Stop managing a version; if it is aspired to again, the next poll loads it again."""
        if self._managed.get(version.number) is version:
            del self._managed[version.number]

    def _set(self, version: Version, state: str) -> None:
        version.state = state
        self._lock.notify_all()


def not_found(name: str, version: int | None) -> ModelError:
    """TensorFlow Serving's error for a model that it does not serve."""
    what = f"Latest({name})" if version is None else f"Specific({name}, {version})"
    return ModelError("NOT_FOUND", f"Servable not found for request: {what}")


def unknown(name: str, version: int | None) -> ModelError:
    """TensorFlow Serving's error for the status of a model that it does not know."""
    what = "any versions" if version is None else f"version {version}"
    return ModelError("NOT_FOUND", f"Could not find {what} of model {name}")
