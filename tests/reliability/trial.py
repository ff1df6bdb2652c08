"""A fault at a server under callers: what is measured, and what must hold."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.reliability.resources import Usage
from tests.reliability.table import Row

from servable_client import ServableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import RunningServer
    from tests.reliability.callers import Call, Callers
    from tests.reliability.resources import Stalls

# A call ends at most so many seconds after its deadline.
TOLERANCE = 0.5
# The service is back at most so many seconds after a fault has ended.
BACK = 10.0
# What a server may have more after a fault than before. Its pools begin threads as they need them.
GROWTH = Usage(memory=100, threads=8, descriptors=8)
# Against a hang alone; what the service may take is measured.
_HANG_SECONDS = 300.0
# How long a server may take to close connections and give memory back.
_SETTLE_SECONDS = 30.0


@dataclass
class Trial:
    """A fault at a server, injected once or several times.

    Attributes:
        fault: Its name.
        server: The server.
        callers: The callers.
        rounds: How many times it is to be injected.
        spared: Whether no call may fail.
        alone: Whether nothing else runs on the machine, so that the service must be back in time.
    """

    fault: str
    server: RunningServer
    callers: Callers
    stalls: Stalls
    rounds: int = 1
    spared: bool = False
    alone: bool = False
    since: float = 0.0
    back: float = 0.0

    def measure(self) -> None:
        """Measure what the server uses while it answers the callers."""
        self.since = time.monotonic()
        self.until_answered()
        self._before = Usage.of(self.server.process.pid)

    @contextmanager
    def injected(self) -> Iterator[None]:
        """The fault is there for the length of the block; then wait until the service is back."""
        self.since = time.monotonic()
        yield
        ended = time.monotonic()
        self._until(lambda call: call.is_right and call.began > ended)
        first = {call.kind: call.ended for call in reversed(self.callers.calls)
                 if call.is_right and call.began > ended}  # fmt: skip
        if not self.spared:
            self.back = max(self.back, max(first.values()) - ended)

    def until(self, condition: Callable[[Call], bool]) -> None:
        """Wait until each kind of caller has had a call like that since the fault began."""
        since = self.since
        self._until(lambda call: call.ended > since and condition(call))

    def _until(self, condition: Callable[[Call], bool]) -> None:
        end = time.monotonic() + _HANG_SECONDS
        while not self.callers.each(condition):
            last = {call.kind: call for call in list(self.callers.calls)}
            assert time.monotonic() < end, f"exit status {self.server.process.poll()}; {last}"
            time.sleep(0.05)

    def until_failed(self) -> None:
        """Wait until each kind of caller has failed, which shows that there is a fault."""
        self.until(lambda call: call.error is not None)

    def until_answered(self, seconds: float = 0.5) -> None:
        """Wait until each kind of caller is answered that long after the fault began."""
        self.until(lambda call: call.is_right and call.began > self.since + seconds)

    def check_growth(self) -> None:
        """Wait until the server uses what it used before, but for what pools may have more."""
        end = time.monotonic() + _SETTLE_SECONDS
        while not (growth := self._growth()) <= GROWTH:
            assert time.monotonic() < end, f"{self._before} before, and now more by {growth}"
            time.sleep(0.1)

    def _growth(self) -> Usage:
        return Usage.of(self.server.process.pid) - self._before

    def row(self) -> Row:
        """What the fault did; after the last call."""
        calls = self.callers.calls
        growth = self._growth()
        return Row(
            fault=self.fault,
            calls=len(calls),
            wrong=sum(call.wrong for call in calls),
            failed=sum(call.error is not None for call in calls),
            late=max(0.0, *(call.seconds - self.callers.deadline for call in calls)),
            back=self.back,
            memory=growth.memory,
            threads=growth.threads,
            descriptors=growth.descriptors,
        )

    def check(self) -> None:
        """Check what must hold of the calls; after the last of them."""
        calls = self.callers.calls
        check_calls(calls, self.callers.deadline, self.stalls)
        if self.spared:
            none_of("failed", [call for call in calls if call.error is not None])
        if self.alone:
            assert self.back <= BACK, f"back after {self.back} s and not after {BACK} s"


def check_calls(calls: list[Call], deadline: float, stalls: Stalls) -> None:
    """Check what must hold of all calls, whatever the fault."""
    none_of("wrong", [call for call in calls if call.wrong])
    none_of(
        "failed with another error than the SDK's",
        [call for call in calls if not isinstance(call.error, ServableError | None)],
    )
    late = [call for call in calls if _lateness(call, deadline, stalls) > TOLERANCE]
    none_of("ended too late", late)


def _lateness(call: Call, deadline: float, stalls: Stalls) -> float:
    """Seconds after its deadline, without those in which the machine stood still."""
    late = call.seconds - deadline
    return late - stalls.within(call.began, call.ended) if late > 0 else late


def none_of(what: str, calls: list[Call]) -> None:
    """Check that there are no calls of a kind."""
    assert not calls, f"{len(calls)} calls {what}: {calls[:3]}"
