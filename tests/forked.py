"""The command `servable` in processes forked from one that has imported TensorFlow.

The import takes most of the time of a command, and a run of the tests starts hundreds of them.
Tests of the imports, and of a program that a user starts, run Python anew.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import chdir, suppress
from functools import cache
from multiprocessing import forkserver
from pathlib import Path
from typing import TYPE_CHECKING

from servable_serving.core.processes import serve_command

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from multiprocessing.context import ForkServerProcess

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
        self._process = _fork(["serve", *flags], log, log)

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
            raise subprocess.TimeoutExpired("servable serve", timeout or 0)
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
        _stop(self, grace)


class FreshServer(subprocess.Popen[bytes]):
    """`servable serve` as a user starts it, in a process that imports everything itself.

    Args:
        flags: Flags of `servable serve`.
        log: The file that its output is written to.
        env: Its environment; this process's unless given.
    """

    def __init__(
        self, flags: Sequence[str], log: Path, env: Mapping[str, str] | None = None
    ) -> None:
        with log.open("wb") as output:
            super().__init__(
                serve_command(*flags),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=env,
                start_new_session=True,
            )

    def stop(self, grace: float = 20) -> None:
        """End the process: by SIGTERM, and by SIGKILL if that takes longer than `grace`."""
        _stop(self, grace)


def servable(
    *arguments: object,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float = 300,
) -> subprocess.CompletedProcess[str]:
    """Run the command, as `subprocess.run` would.

    Args:
        arguments: What follows `servable`.
        env: The environment; this process's unless given.
        cwd: The working directory; this process's unless given.
        timeout: A guard against hangs, in seconds.
    """
    words = list(map(str, arguments))
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        process = _fork(words, out, err, env=env, cwd=cwd)
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(words, timeout, out.read_bytes(), err.read_bytes())
        return subprocess.CompletedProcess(
            words, process.exitcode, out.read_text(), err.read_text()
        )


def started(*arguments: object, log: Path) -> ForkServerProcess:
    """Start the command, with its output in a file."""
    return _fork(list(map(str, arguments)), log, log)


def _environment() -> dict[str, str]:
    """The environment, which pytest changes in the main thread for each test."""
    while True:
        with suppress(KeyError, RuntimeError):
            return dict(os.environ)


def _fork(
    words: Sequence[str],
    out: Path,
    err: Path,
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> ForkServerProcess:
    _start_forking()
    for path in {out, err}:
        path.write_bytes(b"")
    process = _context.Process(
        target=_run,
        args=(
            tuple(words),
            out,
            err,
            _environment() if env is None else dict(env),
            cwd or Path.cwd(),
        ),
        daemon=True,
    )
    process.start()
    return process


@cache
def _start_forking() -> None:
    # Its import of tests.preloaded depends on the working directory, which tests may change.
    with chdir(_ROOT):
        forkserver.ensure_running()


def _run(
    words: tuple[str, ...], out: Path, err: Path, environment: Mapping[str, str], cwd: Path
) -> None:
    from servable_client.cli.app import main

    os.setsid()
    for path, number in ((out, 1), (err, 2)):
        opened = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.dup2(opened, number)
        os.close(opened)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    sys.argv = ["servable", *words]
    main()


def _stop(process: ForkedServer | FreshServer, grace: float) -> None:
    process.terminate()
    try:
        process.wait(grace)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
