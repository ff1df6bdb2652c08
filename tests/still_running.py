"""Report the tests that are running when none has ended for a while."""

from __future__ import annotations

import threading
import time

import pytest

_QUIET_SECONDS = 30.0


class StillRunning:
    """Writes the running tests every half minute in which no test has ended.

    Args:
        reporter: Writes to the terminal.
    """

    def __init__(self, reporter: pytest.TerminalReporter) -> None:
        self._reporter = reporter
        self._started: dict[str, float] = {}
        self._ended = threading.Event()
        self._over = False
        self._thread = threading.Thread(target=self._watch, name="still-running", daemon=True)

    def pytest_sessionstart(self) -> None:
        """Start the watching thread."""
        self._thread.start()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Note the start of a test, in this process or in a worker."""
        self._started[nodeid] = time.monotonic()

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Note the end of a test."""
        self._started.pop(nodeid, None)
        self._ended.set()

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        """Stop the watching thread."""
        self._over = True
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over:
            if self._ended.wait(_QUIET_SECONDS):
                self._ended.clear()
                continue
            now = time.monotonic()
            running = [
                f"{test} ({now - started:.0f} s)" for test, started in [*self._started.items()]
            ]
            if running:
                self._reporter.write_line(f"\nstill running: {', '.join(running)}")
