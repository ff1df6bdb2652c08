"""Asks again what the gateway mirrors, off the path of the clients."""

from __future__ import annotations

import logging
import queue
import random
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from servable_serving.mirror.ask import Mirrored, NotPredict, Observation
from servable_serving.mirror.comparison import Comparison, Pair

if TYPE_CHECKING:
    from collections.abc import Sequence

    from servable_serving.mirror.ask import Servers
    from servable_serving.mirror.drift import Drift

_log = logging.getLogger("servable.mirror")

# Requests and bytes that may wait; more are dropped, and counted.
_WAITING, _WAITING_BYTES = 1000, 64 << 20
_THREADS = 4
# Comparisons that are kept; the oldest is forgotten.
_MOST_PAIRS = 8


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """A mirrored request, as it came.

    Attributes:
        path: The path that the client sent it to.
        body: Its body.
        name: Its id.
        pairs: The versions to compare, of each model that it may be for.
        observed: Whether its answer is counted.
        version: The version that the gateway sent it to; None if unknown.
    """

    path: str
    body: bytes
    name: str = ""
    pairs: Sequence[Pair] = ()
    observed: bool = False
    version: int | None = None


class Mirror:
    """A queue of mirrored requests, and the threads that ask them again.

    Args:
        servers: Asks the model servers.
        drift: Counts the answers of observed requests; None to observe none.
    """

    def __init__(self, servers: Servers, drift: Drift | None = None) -> None:
        self._servers, self._drift = servers, drift
        self._comparisons: dict[Pair, Comparison] = {}
        self._waiting: queue.Queue[Waiting | None] = queue.Queue(_WAITING)
        self._bytes, self._lock = 0, threading.Lock()
        self._threads = [
            threading.Thread(target=self._run, name=f"mirror-{number}", daemon=True)
            for number in range(_THREADS)
        ]
        for thread in self._threads:
            thread.start()

    def take(self, mirrored: Waiting) -> None:
        """Queue a request, or drop it if too many wait."""
        size = len(mirrored.body)
        with self._lock:
            fits = self._bytes + size <= _WAITING_BYTES
            self._bytes += size if fits else 0
        if not fits:
            self.drop(mirrored.pairs)
            return
        try:
            self._waiting.put_nowait(mirrored)
        except queue.Full:
            self._release(size)
            self.drop(mirrored.pairs)

    def drop(self, pairs: Sequence[Pair]) -> None:
        """Count a request that is not asked again."""
        for pair in pairs:
            self.comparison(pair).dropped()

    def comparison(self, pair: Pair) -> Comparison:
        """What is known of two versions."""
        with self._lock:
            found = self._comparisons.get(pair)
            if found is None:
                found = self._comparisons[pair] = Comparison()
                if len(self._comparisons) > _MOST_PAIRS:
                    del self._comparisons[next(iter(self._comparisons))]
            return found

    def pairs(self) -> list[Pair]:
        """The versions that are known, the latest last."""
        with self._lock:
            return list(self._comparisons)

    def wait(self) -> None:
        """Wait until all that was taken has been asked."""
        self._waiting.join()

    def close(self) -> None:
        """End the threads; what waits is not asked."""
        while True:
            try:
                self._waiting.get_nowait()
            except queue.Empty:
                break
        for _ in self._threads:
            self._waiting.put(None)
        for thread in self._threads:
            thread.join()
        self._servers.close()

    def _release(self, size: int) -> None:
        with self._lock:
            self._bytes -= size

    def _run(self) -> None:
        while (item := self._waiting.get()) is not None:
            try:
                request = Mirrored.read(item.path, item.body, name=item.name)
                found = self._compare(request, item.pairs)
                if item.observed and self._drift is not None:
                    # Over gRPC, a request that names nothing is for the highest version.
                    if found is None or not (
                        item.version == found.version or request.names(found.version)
                    ):
                        found = self._servers.observe(request, item.version)
                    if found is not None:
                        self._drift.add(
                            request.model, found.version, request.inputs(), found.answer
                        )
            except NotPredict:
                pass
            except Exception:  # noqa: BLE001 - no request may end the thread
                _log.exception("a mirrored request failed")
            finally:
                self._release(len(item.body))
                self._waiting.task_done()

    def _compare(self, request: Mirrored, pairs: Sequence[Pair]) -> Observation | None:
        """Ask both versions of a pair; what the one in service answered."""
        pair = next((one for one in pairs if one.model == request.model), None)
        if pair is None or not request.is_for(pair.against):
            return None
        # In an order of chance: the second finds the processor's caches warm.
        versions = [(pair.name, pair.version), (pair.model, pair.against)]
        asked = {
            (name, version): self._servers.ask(request, name, version)
            for name, version in random.sample(versions, 2)
        }
        one, other = (asked[version] for version in versions)
        self.comparison(pair).add(request.name, request.transport, one, other)
        if other.answer is None:
            return None
        return Observation(version=pair.against, answer=other.answer)
