"""Continuous requests, to show that a switch of versions loses none."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from servable_client import Client, ServableError

if TYPE_CHECKING:
    from servable_trainer.data.dataset import Dataset

_SWITCH_SECONDS = 60.0
_PAUSE_SECONDS = 0.02


class DemoError(ServableError):
    """The demo failed."""


@dataclass
class LoadGenerator:
    """Sends requests to the stable version continuously, from a thread."""

    server: str
    dataset: Dataset
    asked: int = 0
    failures: list[ServableError] = field(default_factory=list)
    versions: Counter[int] = field(default_factory=Counter)

    def start(self) -> None:
        """Start sending requests."""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop sending, and wait for the request in flight."""
        self._stopping.set()
        self._thread.join()

    def wait_for_more(self, count: int) -> None:
        """Wait until `count` more requests were answered."""
        until, end = self.asked + count, time.monotonic() + _SWITCH_SECONDS
        while self.asked < until:
            if time.monotonic() > end:
                raise DemoError(f"{self.server} stopped answering within {_SWITCH_SECONDS:g} s")
            time.sleep(_PAUSE_SECONDS)

    def _ask(self) -> None:
        with Client(self.server, model=self.dataset.name, label="stable") as client:
            while not self._stopping.wait(_PAUSE_SECONDS):
                image = self.dataset.test.images[self.asked % len(self.dataset.test)]
                try:
                    answer = client.classify(image)
                except ServableError as error:
                    self.failures.append(error)
                else:
                    if answer.version is not None:
                        self.versions[answer.version] += 1
                self.asked += 1
