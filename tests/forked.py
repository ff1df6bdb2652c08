"""`servable serve` in processes forked from one that has imported TensorFlow.

The import takes most of a start, and a run of the tests starts over a hundred servers. Tests of the
start itself, and of what the environment sets at the import, run the command anew.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from contextlib import chdir
from functools import cache
from multiprocessing import forkserver
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_ROOT = Path(__file__).parent.parent
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.preloaded"])


class ForkedServer:
    """A server's process, with the methods of `subprocess.Popen` that tests call.

    Args:
        flags: Flags of `servable serve`.
        log: The file that its output is written to.
    """

    def __init__(self, flags: Sequence[str], log: Path) -> None:
        _start_forking()
        log.write_bytes(b"")
        self._process = _context.Process(
            target=_serve, args=(tuple(flags), log, dict(os.environ)), daemon=True
        )
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        """The exit status, or minus the signal's number; None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        status = self.poll()
        if status is None:
            raise TimeoutError
        return status

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def stop(self, grace: float = 20) -> None:
        """End the process: by SIGTERM, and by SIGKILL if that takes longer than `grace`."""
        self.terminate()
        try:
            self.wait(grace)
        except TimeoutError:
            self.kill()
            self.wait()


@cache
def _start_forking() -> None:
    # Its import of tests.preloaded depends on the working directory, which tests may change.
    with chdir(_ROOT):
        forkserver.ensure_running()


def _serve(flags: tuple[str, ...], log: Path, environment: Mapping[str, str]) -> None:
    from servable_client.cli.app import main

    os.setsid()
    output = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["servable", "serve", *flags]
    main()
