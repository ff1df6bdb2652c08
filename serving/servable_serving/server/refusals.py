"""When to send refusals."""

from __future__ import annotations

import random
import time

# In a second, and at once before any is delayed.
_RATE, _BURST = 200.0, 100
_LONGEST = 2.0


class Refusals:
    """Delays refusals beyond a rate.

    Callers that retry at once would otherwise take the event loop's time from the requests that
    were accepted: with N of them, an event waits for up to N others. The algorithm is the generic
    cell rate algorithm (ITU-T I.371). For one event loop: not thread-safe.
    """

    def __init__(self) -> None:
        self._next = 0.0

    def delay(self, deadline: float | None = None) -> float:
        """Seconds, at most 2, until the next refusal should be sent.

        Args:
            deadline: Of the call, by time.monotonic; half of the time until then at most.
        """
        now = time.monotonic()
        at = max(self._next, now - _BURST / _RATE)
        delay = max(at - now, 0.0)
        if delay < _LONGEST:
            self._next = at + 1 / _RATE
        else:  # spread, since callers that come together would come together again
            delay = random.uniform(_LONGEST / 2, _LONGEST)
        if deadline is not None:
            delay = min(delay, max(deadline - now, 0.0) / 2)
        return delay
