"""What holds connections, and is replaced after a call that nothing answered.

grpcio goes on with a connection whose peer is silent until its keepalive notices, and servers allow
no pings that are frequent enough for that; a pool of httpcore goes on with its other connections,
whose peer is as dead. A call that is late and a peer that is gone look the same, so all connections
are replaced in both cases; calls in progress are not touched.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")


class Held(Generic[_T]):
    """What some calls use, and how many are in progress."""

    def __init__(self, value: _T) -> None:
        self.value = value
        self.users = 0
        self.retired = False


class Renewing(Generic[_T]):
    """What calls share; thread-safe.

    Args:
        make: Makes it anew.
    """

    def __init__(self, make: Callable[[], _T]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._held = Held(make())
        self.closed = False

    def begin(self) -> Held[_T]:
        """What a call is to use that begins now."""
        with self._lock:
            self._held.users += 1
            return self._held

    def end(self, held: Held[_T]) -> bool:
        """A call has ended; whether what it used is to be closed, since nothing uses it now."""
        with self._lock:
            held.users -= 1
            return held.retired and not held.users

    def renew(self, silent: Held[_T]) -> None:
        """Use another from now on, since nothing answered a call."""
        with self._lock:
            if silent is self._held and not self.closed:
                self._held = Held(self._make())
                silent.retired = True

    def close(self) -> _T:
        """Keep what is in use from now on; returns it, to be closed."""
        with self._lock:
            self.closed = True
            return self._held.value
