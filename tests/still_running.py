"""What a run of the tests says where a long test keeps it from saying anything."""

from __future__ import annotations

import threading
import time

import pytest

_QUIET_SECONDS = 30.0


class StillRunning:
    """Names the tests that run, once none has ended for half a minute, and each half minute after.

    Args:
        reporter: Who writes to the terminal.
    """

    def __init__(self, reporter: pytest.TerminalReporter) -> None:
        self._reporter = reporter
        self._began: dict[str, float] = {}
        self._ended = threading.Event()
        self._over = False
        self._thread = threading.Thread(target=self._watch, name="still-running", daemon=True)

    def pytest_sessionstart(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """A test begins, in this process or in another."""
        self._began[nodeid] = time.monotonic()

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """A test has ended."""
        self._began.pop(nodeid, None)
        self._ended.set()

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        """Watch no more."""
        self._over = True
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over:
            if self._ended.wait(_QUIET_SECONDS):
                self._ended.clear()
                continue
            now = time.monotonic()
            running = [f"{test} ({now - began:.0f} s)" for test, began in [*self._began.items()]]
            if running:
                self._reporter.write_line(f"\nstill running: {', '.join(running)}")
