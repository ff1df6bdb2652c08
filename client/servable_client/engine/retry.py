"""When a failed attempt is made again, and after how long."""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass

from servable_client._errors import InvalidInput

# What one success gives back to the budget.
_REFUND = 0.1


@dataclass(frozen=True, kw_only=True)
class Retry:
    """How failed calls are made again.

    Only what may pass is tried again: UNAVAILABLE, HTTP 502, 503 and 504, and, where the server
    says after how long, RESOURCE_EXHAUSTED and 429. While another address is left that did not
    fail, it is asked at once; else the wait is drawn evenly between nothing and a limit that
    doubles from `initial` to `maximum` ("full jitter", Marc Brooker, "Exponential Backoff And
    Jitter", AWS Architecture Blog, 2015). Nothing is retried past a call's deadline.

    Attributes:
        attempts: How often a call is tried in all; 1 for no retries, None for as often as its
            time allows.
        initial: The first wait's limit, in seconds.
        maximum: The limit that is not passed, in seconds.
        budget: How many retries all calls of a client may make in a row before successes pay
            for more, ten for one (gRFC A6, "Retry Throttling"); it keeps a server that is down
            from being asked several times as often as one that is up.

    Raises:
        InvalidInput: A number makes no sense.

    Example:
        >>> patient = Client(server, model="fashion_mnist", timeout=60, retry=Retry(maximum=5))
        >>> hasty = Client(server, model="fashion_mnist", retry=Retry(attempts=1))
    """

    attempts: int | None = None
    initial: float = 0.1
    maximum: float = 2.0
    budget: int = 100

    def __post_init__(self) -> None:
        few = self.attempts is not None and self.attempts < 1
        if few or self.budget < 0 or not 0 <= self.initial <= self.maximum:
            raise InvalidInput(
                f"invalid retry policy {self}",
                hint="attempts >= 1, budget >= 0 and 0 <= initial <= maximum seconds",
            )

    def wait(self, attempt: int) -> float:
        """Seconds to wait after a number of attempts, drawn anew each time."""
        # Beyond 2**60 the limit has long been reached, and floats would overflow.
        limit = min(self.maximum, self.initial * 2.0 ** min(attempt - 1, 60))
        return random.uniform(0, limit)


class Budget:
    """The retries that are left to a client: a token bucket."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._tokens = float(capacity)
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Take a token for a retry, if there is one."""
        with self._lock:
            if self._tokens < 1:
                return False
            self._tokens -= 1
            return True

    def refund(self) -> None:
        """Give back a little for a success."""
        if self._tokens < self._capacity:
            with self._lock:
                self._tokens = min(self._capacity, self._tokens + _REFUND)
