"""A server in a subprocess that loads one candidate, which may crash it."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from servable_serving.core.processes import (
    ServerEnded,
    ServerNotReady,
    ServerProcess,
    model_probe,
    serve_command,
)
from servable_serving.core.sockets import free_ports
from servable_serving.gates.verdict import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator

# Generous, to detect hangs on loaded machines.
_LOAD_SECONDS = 300
# What the limit of the kernel leaves beyond ours, which is compared with resident memory: threads
# and arenas reserve more than they use.
_SPARE_MEBIBYTES = 1024


class TrialServer:
    """`servable serve` or a tensorflow_model_server with one candidate loaded.

    Attributes:
        grpc_port: Its port for gRPC.
        rest_port: Its port for REST.
    """

    def __init__(self, server: ServerProcess, ports: list[int]) -> None:
        self._server = server
        self.grpc_port, self.rest_port = ports
        self._limit: float | None = None
        self._before: float | None = None

    @classmethod
    @contextmanager
    def of(cls, candidate: Path, name: str, program: Path | None) -> Iterator[TrialServer]:
        """A server that has loaded a candidate, stopped at the end of the block.

        Args:
            candidate: The folder.
            name: The model's name.
            program: A tensorflow_model_server; `servable serve` unless given.

        Raises:
            Refused: The candidate does not load, or its warm-up fails.
            ServableError: The server cannot be started.
        """
        with tempfile.TemporaryDirectory(prefix="servable-trial-") as folder:
            base, ports = Path(folder) / "models", free_ports(2)
            base.mkdir()
            (base / "1").symlink_to(candidate.resolve())
            flags = [
                f"--model_name={name}", f"--model_base_path={base}",
                f"--port={ports[0]}", f"--rest_api_port={ports[1]}",
                "--max_num_load_retries=0", "--file_system_poll_wait_seconds=0",
            ]  # fmt: skip
            with ServerProcess.running(
                # In JSON, a failed load can be distinguished from other messages.
                [str(program), *flags] if program else serve_command(*flags, "--log_json"),
                Path(folder) / "log",
                # TensorFlow enables oneDNN's kernels by default only on some processors. The
                # servers may use them, and they are what crashes at a wrong rank.
                env={"TF_ENABLE_ONEDNN_OPTS": "1", **os.environ},
            ) as process:
                server = cls(process, ports)
                server._wait_until_loaded(name)
                yield server

    @property
    def exit_status(self) -> int | None:
        """The exit status, or minus the signal's number; None while it runs."""
        return self._server.exit_status

    def died(self, *, within: float) -> bool:
        """Whether it ends within some seconds: its connections close before its process does."""
        return self._server.ends_within(within)

    def how_it_ended(self) -> str:
        """The signal or status that it ended with, and the check that failed in it.

        For a server that has ended.
        """
        status = self._server.process.returncode
        how = f"by {signal.Signals(-status).name}" if status < 0 else f"with status {status}"
        check = re.search(r"Check failed: [^\n]*", self._server.log.read_text(errors="replace"))
        said = f" ({one_line(check[0])})" if check else ""
        return f"the trial server was ended {how}{said}"

    def limit_memory(self, mebibytes: float) -> None:
        """Let requests add so much to the memory that the server has now, on Linux.

        More fails in the server, so that the machine does not run out of memory.
        """
        self._limit, self._before = mebibytes, self.peak_mebibytes()
        held = self._status("VmData")
        if held is None or sys.platform != "linux":
            return
        import resource  # which other systems lack, or have without prlimit

        most = int((held + mebibytes + _SPARE_MEBIBYTES) * (1 << 20))
        _, hard = resource.prlimit(self._server.pid, resource.RLIMIT_DATA)
        if hard == resource.RLIM_INFINITY or most < hard:
            resource.prlimit(self._server.pid, resource.RLIMIT_DATA, (most, hard))

    def exceeded(self) -> float | None:
        """MiB that requests have added to its memory, if that is more than the limit."""
        peak = self.peak_mebibytes()
        if peak is None or self._before is None or self._limit is None:
            return None
        return peak - self._before if peak - self._before > self._limit else None

    def peak_mebibytes(self) -> float | None:
        """Peak resident memory; None if the system does not report it."""
        return self._status("VmHWM")

    def _status(self, field: str) -> float | None:
        """A field of the process's status in MiB; None if the system does not report it."""
        try:
            status = Path(f"/proc/{self._server.pid}/status").read_text()
        except OSError:
            return None
        found = re.search(rf"^{field}:\s+(\d+) kB", status, re.MULTILINE)
        return round(int(found[1]) / 1024, 1) if found else None

    def _wait_until_loaded(self, name: str) -> None:
        with model_probe(f"grpc://127.0.0.1:{self.grpc_port}", name) as probe:
            try:
                self._server.wait_until_ready(probe, timeout=_LOAD_SECONDS)
            except ServerEnded as error:
                raise Refused(
                    f"the candidate does not load: {self._why()}",
                    figures={"exit_status": self.exit_status},
                ) from error
            except ServerNotReady as error:
                raise Refused(f"the candidate did not load: {error}") from error

    def _why(self) -> str:
        """Why a server did not start."""
        if self._server.process.returncode < 0:
            return self.how_it_ended()
        text = self._server.log.read_text(errors="replace")
        lines = [line for line in text.splitlines() if line.strip()]
        # The last line is a hint if the command itself failed.
        return one_line(failed_load(text) or "\n".join(lines[-2:]) or "its log is empty")


def failed_load(log: str) -> str | None:
    """The message of the last failed load in the log of `servable serve --log_json`."""
    for line in reversed(log.splitlines()):
        try:
            record = json.loads(line)
        except ValueError:
            continue  # TensorFlow's own, or Python's
        if isinstance(record, dict) and record.get("event") == "load_failed":
            return str(record["message"])
    return None


def one_line(text: str, most: int = 300) -> str:
    """A text on one line, truncated if long."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[:most]}..."
