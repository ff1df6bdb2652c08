"""Server subprocesses: start, wait until ready, stop.

A server counts as ready when a probe says so, which asks it as its callers will. While it is not,
its process is watched as well, so that a server which ends at once is not waited for.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from servable_client import Client, ServableError
from servable_serving.core.signals import uninterrupted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from servable_serving.core.clock import Clock

# How long a probe may take, and how long to wait before the next one.
_PROBE_SECONDS = 0.5
_PAUSE_SECONDS = 0.05
# Longer than the server's shutdown grace period.
_GRACE_SECONDS = 20.0


class ServerNotReady(ServableError):
    """A server was not ready in time."""


class ServerEnded(ServerNotReady):
    """A server's process ended before it was ready."""


class Probe(Protocol):
    """Checks once whether a server is ready."""

    def __call__(self) -> int:
        """The version that it serves.

        Raises:
            ServableError: It is not ready yet.
        """
        ...


def wait_until_ready(
    probe: Probe, *, running: Callable[[], bool], timeout: float, clock: Clock = time
) -> int:
    """Wait for a server that runs in any process.

    Args:
        probe: Asks it.
        running: Whether its process still runs.
        timeout: How long to wait, in seconds.
        clock: The time.

    Returns:
        What the probe answered.

    Raises:
        ServerEnded: The process ended, though another program may answer in its place.
        ServerNotReady: The time is up; the cause is the probe's last error.
    """
    end = clock.monotonic() + timeout
    while True:
        try:
            version = probe()
        except ServableError as error:
            if not running():
                raise ServerEnded("the server ended before it was ready") from error
            if clock.monotonic() >= end:
                raise ServerNotReady(f"not available after {timeout:g} seconds: {error}") from error
            clock.sleep(_PAUSE_SECONDS)
        else:
            if not running():
                raise ServerEnded("another program answers in the place of the server")
            return version


@contextmanager
def model_probe(address: str, model: str) -> Iterator[Probe]:
    """A probe for whether a version of a model is available."""
    with Client(address, model=model) as client:
        yield lambda: client.wait_until_available(timeout=_PROBE_SECONDS)


@dataclass(frozen=True, eq=False)
class ServerProcess:
    """A server in a subprocess, with its output in a file.

    Attributes:
        process: The process.
        log: The file with its standard output and standard error.
    """

    process: subprocess.Popen[bytes]
    log: Path

    @classmethod
    def start(
        cls,
        command: Sequence[str],
        log: Path,
        *,
        env: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
    ) -> ServerProcess:
        """Start a server; it need not be ready yet.

        Args:
            command: The program and its arguments.
            log: The file for its output; an existing one is overwritten.
            env: Its environment; this process's unless given.
            pass_fds: File descriptors that it inherits.

        Raises:
            ServableError: The program cannot be started.
            OSError: The log cannot be written.
        """
        with log.open("wb") as output:
            try:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    # A copy: the start fails with EFAULT if another thread changes the environment
                    # at the same time.
                    env=dict(os.environ) if env is None else env,
                    pass_fds=pass_fds,
                    # Not affected by the terminal's Ctrl-C: the program that started the server
                    # stops it, or leaves it running.
                    start_new_session=True,
                )
            except OSError as error:
                raise ServableError(f"cannot start {command[0]}: {error.strerror}") from error
        return cls(process, log)

    @classmethod
    @contextmanager
    def running(cls, command: Sequence[str], log: Path, **options: Any) -> Iterator[ServerProcess]:
        """A server that is stopped at the end of the block; arguments as for `start`."""
        server = cls.start(command, log, **options)
        try:
            yield server
        finally:
            server.stop()

    @property
    def pid(self) -> int:
        """The process number."""
        return self.process.pid

    @property
    def exit_status(self) -> int | None:
        """The exit status, or minus the signal's number; None while it runs."""
        return self.process.poll()

    def wait_until_ready(self, probe: Probe, *, timeout: float) -> int:
        """Wait until a probe succeeds; see the function of this name."""
        return wait_until_ready(probe, running=lambda: self.exit_status is None, timeout=timeout)

    def ends_within(self, seconds: float) -> bool:
        """Wait for the process to end by itself; whether it did."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def stop(self, grace: float = _GRACE_SECONDS) -> None:
        """End the process: by SIGTERM, and by SIGKILL if that takes longer than `grace`."""
        with uninterrupted():
            self.process.terminate()
            if not self.ends_within(grace):
                self.process.kill()
                self.process.wait()

    def last_line(self) -> str:
        """The last line of its output, which usually says why it ended."""
        return last_line(self.log)


def serve_command(*flags: str) -> list[str]:
    """The command line of the embedded server, run by this Python."""
    return [sys.executable, "-m", "servable", "serve", *flags]


def repository_flags(models: Path, *, port: int, rest_port: int) -> list[str]:
    """The flags to serve a model repository by its models.config, with labels."""
    return [
        f"--model_config_file={models / 'models.config'}",
        f"--model_repository_path={models}",
        "--model_config_file_poll_wait_seconds=1",
        "--allow_version_labels_for_unavailable_models",
        f"--port={port}", f"--rest_api_port={rest_port}",
    ]  # fmt: skip


def last_line(log: Path) -> str:
    """The last line of a server's output that is not blank."""
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "its log is empty"
