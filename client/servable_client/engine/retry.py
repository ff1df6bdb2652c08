"""Which failed attempts are retried, and after how long."""

from __future__ import annotations

import math
import random
import threading
from dataclasses import dataclass

from servable_client._errors import InvalidInput
from servable_client.types.arguments import as_integer, as_seconds

# What a success refunds to the budget.
_REFUND = 0.1


@dataclass(frozen=True, kw_only=True)
class Retry:
    """The retry policy.

    Only transient errors are retried: UNAVAILABLE, CANCELLED (a server that stops cancels what
    comes in meanwhile), HTTP 502, 503 and 504, HTTP 429 if the server says after how long, and
    RESOURCE_EXHAUSTED: a server without a free thread refuses a call before it begins. It is not
    retried if the request has more than 4 MiB and no time was named, since then it may be too
    large; nor is anything that the server asks not to retry (gRFC A6, "Pushback"). If another
    address has not failed yet, it is tried at once; otherwise the wait is uniformly random between
    zero and a limit that doubles from `initial` to `maximum` ("full jitter", Marc Brooker,
    "Exponential Backoff And Jitter", AWS Architecture Blog, 2015). Nothing is retried past a call's
    deadline.

    Attributes:
        attempts: The maximum number of attempts; 1 disables retries, None retries until the
            deadline.
        initial: The limit of the first wait, in seconds.
        maximum: The maximum limit, in seconds.
        budget: The maximum number of retries of all calls of a client; ten successes refund one
            (gRFC A6, "Retry Throttling"). It limits the load on a server that is down. A retry
            after RESOURCE_EXHAUSTED or 429 does not count.

    Raises:
        InvalidInput: A value is out of range.

    Example:
        >>> patient = Client(server, model="fashion_mnist", timeout=60, retry=Retry(maximum=5))
        >>> hasty = Client(server, model="fashion_mnist", retry=Retry(attempts=1))
    """

    attempts: int | None = None
    initial: float = 0.1
    maximum: float = 2.0
    budget: int = 100

    def __post_init__(self) -> None:
        if self.attempts is not None:
            as_integer("attempts", self.attempts, lowest=1)
        as_integer("budget", self.budget, lowest=0)
        for name in ("initial", "maximum"):
            as_seconds(name, getattr(self, name), longest=math.inf, zero=True)
        if not self.initial <= self.maximum:
            raise InvalidInput(
                f"initial must be at most maximum, {self.maximum:g} s, got {self.initial:g} s"
            )

    def wait(self, attempt: int) -> float:
        """The wait after `attempt` attempts, in seconds; random."""
        # Beyond 2**60 the limit is reached, and floats would overflow.
        limit = min(self.maximum, self.initial * 2.0 ** min(attempt - 1, 60))
        return random.uniform(0, limit)


class Budget:
    """The retries that a client has left: a token bucket."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._tokens = float(capacity)
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Take a token for a retry; return whether there was one."""
        with self._lock:
            if self._tokens < 1:
                return False
            self._tokens -= 1
            return True

    def refund(self) -> None:
        """Refund a fraction of a token for a success."""
        if self._tokens < self._capacity:
            with self._lock:
                self._tokens = min(self._capacity, self._tokens + _REFUND)
