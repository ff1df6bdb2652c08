"""Scheduling priority of threads."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress

# A third of the weight of other threads (sched(7)).
_NICENESS = 5


def lower_priority() -> None:
    """Lower the scheduling priority of the calling thread, and of those that it starts later.

    For threads that compute: on a machine whose cores are all busy, those that accept and refuse
    requests would wait for each of them. On Linux only, where each thread has its own niceness.
    """
    if sys.platform == "linux":
        thread = threading.get_native_id()
        with suppress(OSError):
            os.setpriority(
                os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + _NICENESS
            )
