"""Which versions of a model are there, and which one answers.

The rules are TensorFlow Serving's: the version folder with the highest number is aspired to; it
is loaded while the older one goes on serving, which is dropped only when the newer one is
available and the last request that it was given has ended; a version that fails to load leaves
the older one serving.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from servable_client import VersionStatus
from servable_serving._saved_model import ModelError, SavedModel
from servable_serving._version_folders import version_folders
from servable_serving._warmup import warm_up

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_log = logging.getLogger("servable.serving")


@dataclass(kw_only=True)
class _Version:
    number: int
    state: str = "START"
    error: ModelError | None = None
    gone: bool = False  # its folder was seen to be away after it failed
    model: SavedModel | None = None
    users: int = 0
    idle: threading.Condition = field(default_factory=threading.Condition)

    @contextmanager
    def use(self) -> Iterator[SavedModel]:
        assert self.model is not None
        try:
            yield self.model
        finally:
            with self.idle:
                self.users -= 1
                self.idle.notify_all()


class ModelManager:
    """Keeps one model's newest version loaded.

    Args:
        name: The model's name.
        base_path: The folder with the version folders.
        poll_seconds: How often to look at it; 0 or less looks once.
    """

    def __init__(self, name: str, base_path: Path, *, poll_seconds: float = 1.0) -> None:
        self.name = name
        self.base_path = base_path
        self._poll_seconds = poll_seconds
        self._versions: dict[int, _Version] = {}
        self._lock = threading.Lock()
        self._draining: list[threading.Thread] = []
        self._stopping = threading.Event()
        self._settled = threading.Event()
        self._thread = threading.Thread(target=self._poll, name=f"poll {name}", daemon=True)

    def start(self) -> None:
        """Begin to look for versions, and load them beside whatever else goes on."""
        self._thread.start()

    def wait_until_settled(self, timeout: float | None = None) -> bool:
        """Wait until a first version is available or has failed; tell whether that came about."""
        return self._settled.wait(timeout)

    def stop(self, *, grace: float = 10.0) -> None:
        """Stop looking, and unload what is loaded once the last request has ended.

        Args:
            grace: Seconds to wait for that.
        """
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        for version in list(self._versions.values()):
            self._unload(version)
        end = time.monotonic() + grace
        for thread in self._draining:
            thread.join(max(end - time.monotonic(), 0))

    @contextmanager
    def model(self, version: int | None = None) -> Iterator[tuple[int, SavedModel]]:
        """An available version, and its number; it stays loaded while the block lasts.

        Args:
            version: The number; the highest available one unless given.

        Raises:
            ModelError: It is not available; `code` is NOT_FOUND.
        """
        with self._lock:
            available = [v for v in self._versions.values() if v.state == "AVAILABLE"]
            if version is not None:
                available = [v for v in available if v.number == version]
            if not available:
                raise not_found(self.name, version)
            chosen = max(available, key=lambda v: v.number)
            with chosen.idle:
                chosen.users += 1
        with chosen.use() as model:
            yield chosen.number, model

    def status(self, version: int | None = None) -> list[VersionStatus]:
        """Every version that was ever looked at, highest first, or one of them.

        Raises:
            ModelError: There is none; `code` is NOT_FOUND.
        """
        with self._lock:
            found = [
                VersionStatus(
                    version=v.number,
                    state=v.state,
                    error_code=v.error.code or "UNKNOWN" if v.error else "OK",
                    error_message=v.error.message if v.error else "",
                )
                for v in sorted(self._versions.values(), key=lambda v: -v.number)
                if version in (None, v.number)
            ]
        if not found:
            raise unknown(self.name, version)
        return found

    def failure(self) -> ModelError | None:
        """Why nothing is available, where a load has failed."""
        with self._lock:
            if any(v.state == "AVAILABLE" for v in self._versions.values()):
                return None
            return next((v.error for v in self._versions.values() if v.error), None)

    def _poll(self) -> None:
        trouble = None  # what was logged last; it is not repeated at every look
        while True:
            before, trouble = trouble, None
            try:
                folders = version_folders(self.base_path)
            except OSError as error:
                # What cannot be read says nothing of what is there: all goes on as it was.
                folders, trouble = None, f"cannot list {self.base_path}: {error}"
            if not folders and not self._versions:
                trouble = f"no versions under {self.base_path} yet"
            if trouble and trouble != before:
                _log.warning("%s: %s", self.name, trouble)
            try:
                if folders is not None:
                    self._reach(folders)
            except Exception:  # noqa: BLE001
                # The thread must live on: without it no version would come or go any more.
                _log.exception("%s: looking for versions failed", self.name)
            if self._poll_seconds <= 0 or self._stopping.wait(self._poll_seconds):
                return

    def _reach(self, folders: Mapping[int, Path]) -> None:
        """Load the highest version, then drop the others."""
        for version in list(self._versions.values()):
            if version.error and not version.gone and version.number not in folders:
                version.gone = True
                _log.info("%s: version %d, which failed, is gone", self.name, version.number)
        aspired = max(folders, default=None)
        if aspired is not None:
            known = self._versions.get(aspired)
            # A version that failed is not tried again while its folder lies there, since that
            # does not change after its rename. One that was unloaded comes back.
            if known is None or (known.state == "END" and (known.error is None or known.gone)):
                known = _Version(number=aspired)
                with self._lock:
                    self._versions[aspired] = known
                self._load(known, folders[aspired])
            if known.state != "AVAILABLE":
                return
        for version in list(self._versions.values()):
            if version.number != aspired and version.state == "AVAILABLE":
                self._unload(version)

    def _load(self, version: _Version, folder: Path) -> None:
        self._set(version, "LOADING")
        model = None
        try:
            model = SavedModel(folder)
            records = warm_up(model, folder)
        except Exception as error:  # noqa: BLE001
            # A version can be broken in more ways than there are names for; each ends its own
            # load, and neither the server nor the version that is serving.
            if model is not None:
                model.close()
            failure = (
                error
                if isinstance(error, ModelError)
                else ModelError("UNKNOWN", f"{type(error).__name__}: {error}")
            )
            with self._lock:
                version.error = failure
            self._set(version, "END")
            _log.error("%s: version %d failed to load: %s", self.name, version.number, error)
        else:
            version.model = model
            self._set(version, "AVAILABLE")
            _log.info(
                "%s: version %d is available, %d warm-up records",
                self.name,
                version.number,
                records,
            )
        self._settled.set()

    def _unload(self, version: _Version) -> None:
        if version.model is None or version.state == "UNLOADING":
            return
        # From here on no request is given this version; those that have it are waited for, in a
        # thread of its own, so that a long one does not keep the next version from loading.
        self._set(version, "UNLOADING")
        thread = threading.Thread(target=self._drain, args=(version,), daemon=True)
        self._draining = [t for t in self._draining if t.is_alive()] + [thread]
        thread.start()

    def _drain(self, version: _Version) -> None:
        with version.idle:
            version.idle.wait_for(lambda: version.users == 0)
        if version.model is not None:
            version.model.close()
            version.model = None
        self._set(version, "END")
        _log.info("%s: version %d is unloaded", self.name, version.number)

    def _set(self, version: _Version, state: str) -> None:
        with self._lock:
            version.state = state


def not_found(name: str, version: int | None) -> ModelError:
    """What TensorFlow Serving says of a model that it does not serve."""
    what = f"Latest({name})" if version is None else f"Specific({name}, {version})"
    return ModelError("NOT_FOUND", f"Servable not found for request: {what}")


def unknown(name: str, version: int | None) -> ModelError:
    """What TensorFlow Serving says of the status of a model that it has never heard of."""
    what = "any versions" if version is None else f"version {version}"
    return ModelError("NOT_FOUND", f"Could not find {what} of model {name}")
