"""A server in a process of its own that loads one candidate, and that may die of it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from servable_client import Client, ServableError
from servable_serving.core.processes import end
from servable_serving.gates.verdict import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator

# Guards against a hang, and no promises: a machine may be busy.
_LOAD_SECONDS = 300
_END_SECONDS = 20


class TrialServer:
    """`servable serve` or a tensorflow_model_server, at two free ports of this machine.

    Attributes:
        grpc_port: Where it speaks gRPC.
        rest_port: Where it speaks REST.
    """

    def __init__(self, candidate: Path, name: str, program: Path | None, folder: Path) -> None:
        base, self._log = folder / "models", folder / "log"
        base.mkdir()
        (base / "1").symlink_to(candidate.resolve())
        self.grpc_port, self.rest_port = _free_ports()
        embedded = [sys.executable, "-m", "servable_client", "serve"]
        with self._log.open("wb") as output:
            try:
                self._process = subprocess.Popen(
                    [
                        *([str(program)] if program else embedded),
                        f"--model_name={name}", f"--model_base_path={base}",
                        f"--port={self.grpc_port}", f"--rest_api_port={self.rest_port}",
                        "--max_num_load_retries=0", "--file_system_poll_wait_seconds=0",
                    ],
                    stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                    # TensorFlow uses oneDNN's kernels by default on some processors alone: where it
                    # will be served they may be in use, and they are what dies of a wrong rank.
                    env={"TF_ENABLE_ONEDNN_OPTS": "1", **os.environ},
                    # A Ctrl-C is for whoever waits here, who then ends it.
                    start_new_session=True,
                )  # fmt: skip
            except OSError as error:
                raise ServableError(f"cannot start {program}: {error.strerror}") from error

    @classmethod
    @contextmanager
    def of(cls, candidate: Path, name: str, program: Path | None) -> Iterator[TrialServer]:
        """A server that has loaded a candidate, ended with the block.

        Args:
            candidate: The folder.
            name: The model's name.
            program: A tensorflow_model_server; `servable serve` unless given.

        Raises:
            Refused: The candidate does not load, or its warm-up fails.
            ServableError: The server cannot be started.
        """
        with tempfile.TemporaryDirectory(prefix="servable-trial-") as folder:
            server = cls(candidate, name, program, Path(folder))
            try:
                server._wait_until_loaded(name)
                yield server
            finally:
                end(server._process, _END_SECONDS)

    @property
    def exit_status(self) -> int | None:
        """What it ended with, a signal's number below zero; None while it runs."""
        return self._process.poll()

    def died(self, *, within: float) -> bool:
        """Whether it has ended or does so in some seconds: its connections are closed first."""
        try:
            self._process.wait(within)
        except subprocess.TimeoutExpired:
            return False
        return True

    def how_it_ended(self) -> str:
        """The signal or status that it ended with, and the check that failed in it."""
        status = self._process.returncode
        how = f"by {signal.Signals(-status).name}" if status < 0 else f"with status {status}"
        check = re.search(r"Check failed: [^\n]*", self._log.read_text(errors="replace"))
        said = f" ({one_line(check[0])})" if check else ""
        return f"the trial server was ended {how}{said}"

    def peak_megabytes(self) -> float | None:
        """The most memory that it has had, where the system tells."""
        try:
            status = Path(f"/proc/{self._process.pid}/status").read_text()
        except OSError:
            return None
        found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
        return round(int(found[1]) / 1024, 1) if found else None

    def _wait_until_loaded(self, name: str) -> None:
        end = time.monotonic() + _LOAD_SECONDS
        with Client(f"grpc://127.0.0.1:{self.grpc_port}", model=name) as client:
            while True:
                if self.exit_status is not None:
                    raise Refused(
                        f"the candidate does not load: {self._why()}",
                        figures={"exit_status": self.exit_status},
                    )
                try:
                    client.wait_until_available(timeout=1)
                except ServableError as error:
                    if time.monotonic() > end:
                        raise Refused(
                            f"the candidate did not load in {_LOAD_SECONDS} s: {error}"
                        ) from error
                    time.sleep(0.05)
                else:
                    return

    def _why(self) -> str:
        """What a server that did not start said last."""
        if self._process.returncode < 0:
            return self.how_it_ended()
        lines = [line.strip() for line in self._log.read_text(errors="replace").splitlines()]
        lines = [line for line in lines if line] or ["it said nothing"]
        # `servable serve` ends with a sentence and perhaps a hint; the other with what failed.
        told = [line.removeprefix("servable: ") for line in lines if line.startswith("servable: ")]
        return one_line((told or lines)[-1])


def _free_ports() -> tuple[int, int]:
    """Two ports that nobody listens at, both held while the second is looked for."""
    with socket.socket() as one, socket.socket() as other:
        for sock in (one, other):
            sock.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1]), int(other.getsockname()[1])


def one_line(text: str, most: int = 300) -> str:
    """A text on one line, shortened where it is long."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[:most]}..."
