"""The models of a server, and which version of which model a request is for."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from servable_serving.core.errors import ModelError, invalid
from servable_serving.core.priority import lower_priority
from servable_serving.server.lifecycle.manager import ModelManager, not_found, unknown
from servable_serving.server.lifecycle.scheduler import Scheduler, ThreadScheduler

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from concurrent.futures import Executor
    from contextlib import AbstractContextManager

    from servable_client import VersionStatus
    from servable_serving.server.config import ModelSettings
    from servable_serving.server.lifecycle.version import Version
    from servable_serving.server.runtime.model import Load, Model

_log = logging.getLogger("servable.serving")

# How long a model that was removed from the configuration still answers: TensorFlow Serving's
# manager, too, acts a tenth of a second later.
_LINGER_SECONDS = 0.1
_GONE_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class Spec:
    """Which model a request is for."""

    name: str
    version: int | None = None
    label: str | None = None


class Models:
    """The models of a server, by name.

    Args:
        load: Loads a version.
        load_threads: Maximum number of concurrent loads.
        max_load_retries: How often a failed load is retried.
        load_retry_seconds: The interval between retries.
        labels_ahead: Whether a label that is not in use may name a version that is not loaded.
        executor: Where loads run, in place of `load_threads` threads.
        scheduler: Where unloads, retries and removals run.
    """

    def __init__(
        self,
        load: Load,
        *,
        load_threads: int = 1,
        max_load_retries: int = 0,
        load_retry_seconds: float = 60.0,
        labels_ahead: bool = False,
        executor: Executor | None = None,
        scheduler: Scheduler | None = None,
    ) -> None:
        self._load = load
        self._max_load_retries = max_load_retries
        self._load_retry_seconds = load_retry_seconds
        self._labels_ahead = labels_ahead
        self._executor = executor or ThreadPoolExecutor(
            max(load_threads, 1), thread_name_prefix="load", initializer=lower_priority
        )
        self._scheduler = scheduler or ThreadScheduler()
        # One lock for all that changes: it is held for microseconds, and never for a load.
        self._changed = threading.Condition(threading.RLock())
        self._managers: dict[str, ModelManager] = {}  # every model that was ever served
        self._served: dict[str, ModelSettings] = {}
        self._labels: Mapping[str, Mapping[str, int]] = {}
        # Held from reading a configuration to `configure`, since each replaces everything.
        self.reloading = threading.Lock()
        self._closing = threading.Event()
        self._poll: threading.Thread | None = None

    # Requests.

    def find(self, spec: Spec) -> AbstractContextManager[tuple[int, Model]]:
        """The version that a request is for, loaded while the block lasts.

        Raises:
            ModelError: There is none.
        """
        if not spec.name:
            raise invalid("ModelSpec has no name specified.")
        version = spec.version
        if spec.label is not None:
            version = self._labels.get(spec.name, {}).get(spec.label)
            if version is None:
                raise invalid(f"Unrecognized servable version label: {spec.label}")
        manager = self._managers.get(spec.name)
        if manager is None:
            raise not_found(spec.name, version)
        return manager.model(version)

    def status(self, spec: Spec) -> list[VersionStatus]:
        """The versions of a model, highest first, or one of them; a label is ignored.

        Raises:
            ModelError: There is none.
        """
        manager = self._managers.get(spec.name)
        if manager is None:
            raise unknown(spec.name, spec.version)
        return manager.status(spec.version)

    def knows(self, name: str) -> bool:
        """Whether the model is, or was, served."""
        return name in self._managers

    # Configuration and polling.

    def configure(self, settings: Sequence[ModelSettings], *, look: bool = True) -> list[str]:
        """Serve these models and no others.

        Args:
            settings: The models; they have been checked.
            look: Whether to look for their versions.

        Returns:
            The names of those that are new; `wait_for` waits for them.

        Raises:
            ModelError: A label names a version that is not available (FAILED_PRECONDITION);
                everything then stays as it was.
        """
        with self._changed:
            self._labels = self._checked_labels(settings)
            served = {model.name: model for model in settings}
            new = [name for name in served if name not in self._served]
            gone = [name for name in self._served if name not in served]
            self._served = served
            for name, model in served.items():
                manager = self._managers.get(name)
                if manager is None:
                    self._managers[name] = ModelManager(
                        model,
                        load=self._load,
                        executor=self._executor,
                        changed=self._changed,
                        max_load_retries=self._max_load_retries,
                        load_retry_seconds=self._load_retry_seconds,
                        scheduler=self._scheduler,
                    )
                elif name in new:
                    manager.add(model)
                else:
                    manager.settings = model
        for name in gone:
            _log.info(
                "%s: removed from the configuration", name,
                extra={"event": "remove", "model": name},
            )  # fmt: skip
            self._scheduler.after(_LINGER_SECONDS, partial(self._drop, name))
        for name in served if look else ():
            # At once, and not at the next poll; versions load in other threads. What a changed
            # policy no longer selects is left to the poll, as in TensorFlow Serving.
            self._managers[name].look(unload=self._poll is None)
        return new

    def _drop(self, name: str) -> None:
        with self._changed:
            if name not in self._served:
                self._managers[name].remove()

    def _checked_labels(self, settings: Sequence[ModelSettings]) -> dict[str, Mapping[str, int]]:
        labels: dict[str, Mapping[str, int]] = {}
        for model in settings:
            manager = self._managers.get(model.name)
            for label, version in model.labels.items():
                known = self._labels.get(model.name, {}).get(label)
                ahead = self._labels_ahead and known in (None, version)
                if not ahead and not (manager and manager.is_available(version)):
                    raise ModelError(
                        "FAILED_PRECONDITION",
                        f"Request to assign label to version {version} of model {model.name}, "
                        "which is not currently available for inference",
                    )
            if model.labels:
                labels[model.name] = dict(model.labels)
        return labels

    def wait_for(self, names: Sequence[str], *, alive: Callable[[], bool]) -> None:
        """Wait until each of some models has an available version.

        First wait, for a second at most, until removed versions are unloaded, so that old and new
        versions share memory as briefly as possible.

        Args:
            names: The models.
            alive: Whether to keep waiting; called several times a second.

        Raises:
            ModelError: The first version of one to finish loading failed (UNKNOWN, worded as by
                TensorFlow Serving), or the model was removed (ABORTED).
        """
        waiting = list(names)
        failed: list[tuple[str, Version]] = []
        if names:
            with self._changed:
                self._changed.wait_for(self._is_settled, _GONE_SECONDS)
        while waiting:
            with self._changed:
                for name in list(waiting):
                    if name not in self._served:
                        raise ModelError(
                            "ABORTED", f"{name} was removed from the configuration meanwhile"
                        )
                    version = self._managers[name].outcome()
                    if version is None:
                        continue
                    waiting.remove(name)
                    if version.state == "END":
                        failed.append((name, version))
                if waiting:
                    self._changed.wait(0.2)
            if waiting and not alive():
                return
        if failed:
            reasons = "".join(
                f"{{{{name: {name} version: {version.number}}}"
                + (
                    f" due to error: {version.error.code}: {version.error.message}"
                    if version.error
                    else ""
                )
                + "}, "
                for name, version in failed
            )
            raise ModelError(
                "UNKNOWN", f"{len(failed)} model(s) did not become available: {{{reasons}}}"
            )

    def _is_settled(self) -> bool:
        """Whether every model that is no longer served has been unloaded."""
        return all(
            manager.is_empty()
            for name, manager in self._managers.items()
            if name not in self._served
        )

    def wait_for_first(self, *, alive: Callable[[], bool]) -> None:
        """Wait until every version there is has been loaded, or has failed once.

        Args:
            alive: Whether to keep waiting; called several times a second.
        """
        with self._changed:
            while alive() and any(m.is_beginning() for m in self._managers.values()):
                self._changed.wait(0.2)

    def troubles(self) -> dict[str, str]:
        """Why the last look found no version of a model, by the model's name."""
        found = {name: self._managers[name].trouble() for name in self._served}
        return {name: trouble for name, trouble in found.items() if trouble is not None}

    def start_polling(self, seconds: float) -> None:
        """Look for versions at an interval, in a background thread."""
        self._poll = threading.Thread(target=self._look, args=(seconds,), name="poll", daemon=True)
        self._poll.start()

    def _look(self, seconds: float) -> None:
        while not self._closing.wait(seconds):
            for name in list(self._served):
                try:
                    self._managers[name].look()
                except Exception:  # noqa: BLE001
                    # The thread must survive: without it no version is loaded or unloaded any more.
                    _log.exception("%s: looking for versions failed", name)

    def close(self, grace: float) -> None:
        """Stop polling, and unload every version once its last request has ended.

        Args:
            grace: Seconds to wait for that.
        """
        self._closing.set()
        if self._poll is not None:
            self._poll.join()
        end = time.monotonic() + grace
        for manager in list(self._managers.values()):
            manager.close(max(end - time.monotonic(), 0))
        self._executor.shutdown(wait=False, cancel_futures=True)
