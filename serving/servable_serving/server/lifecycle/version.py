"""One version of a model: its lifecycle from the folder to the unload.

The states are ModelVersionStatus.State of tensorflow_serving/apis/get_model_status.proto.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from servable_client import VersionStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from servable_serving.core.errors import ModelError
    from servable_serving.server.lifecycle.scheduler import Timer
    from servable_serving.server.runtime.model import Model


class Version:
    """One version; its manager's lock guards every field but `_users`.

    Args:
        number: The version.
        folder: Where it lies.
        changed: Called, without a lock, after the last user of a version that drains has gone.
    """

    def __init__(self, number: int, folder: Path, *, changed: Callable[[Version], None]) -> None:
        self.number = number
        self.folder = folder
        self.aspired = True
        self.state = "START"
        self.error: ModelError | None = None
        self.model: Model | None = None
        self.attempts = 0  # number of load attempts
        self.retry: Timer | None = None
        self._changed = changed
        self._users = 0
        self._draining = False
        self._lock = threading.Lock()

    def acquire(self) -> bool:
        """Start using the model; False if it is draining."""
        with self._lock:
            if self._draining:
                return False
            self._users += 1
            return True

    def release(self) -> None:
        """End a use that `acquire` began."""
        with self._lock:
            self._users -= 1
            last = self._draining and self._users == 0
        if last:
            self._changed(self)

    @contextmanager
    def used(self) -> Iterator[Model]:
        """The model, acquired by `acquire`; released at the end."""
        assert self.model is not None
        try:
            yield self.model
        finally:
            self.release()

    def drain(self) -> None:
        """Accept no more users; `changed` is called once the last one has gone."""
        with self._lock:
            self._draining = True
            last = self._users == 0
        if last:
            self._changed(self)

    @property
    def settled(self) -> bool:
        """Whether it is available, or never will be."""
        return self.state in {"AVAILABLE", "END"}

    def status(self) -> VersionStatus:
        """Its entry in the status API."""
        return VersionStatus(
            version=self.number,
            state=self.state,
            error_code=(self.error.code or "UNKNOWN") if self.error else "OK",
            error_message=self.error.message if self.error else "",
        )
