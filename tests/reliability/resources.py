"""What a process uses, and when the machine ran nothing."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# A process that should wake up every 20 ms, and prints when it did not for a tenth of a second.
_WATCH = """
import os, time
parent, last = os.getppid(), time.monotonic()
while os.getppid() == parent:
    time.sleep(0.02)
    now = time.monotonic()
    if now - last > 0.1:
        print(last, now, flush=True)
    last = now
"""


def writable_memory(pid: int) -> int:
    """The private memory that a process may write to, in bytes, used or not: RLIMIT_DATA's."""
    return int(_status(pid)["VmData"].split()[0]) << 10


def _status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":", 1) for line in lines)


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What a process uses.

    Attributes:
        memory: Its resident memory in MiB.
        threads: Its threads.
        descriptors: Its open files and sockets.
    """

    memory: int
    threads: int
    descriptors: int

    @classmethod
    def of(cls, pid: int) -> Usage:
        """What a process uses now."""
        status = _status(pid)
        return cls(
            memory=int(status["VmRSS"].split()[0]) >> 10,
            threads=int(status["Threads"]),
            descriptors=len(list(Path(f"/proc/{pid}/fd").iterdir())),
        )

    def __sub__(self, other: Usage) -> Usage:
        return Usage(
            memory=self.memory - other.memory,
            threads=self.threads - other.threads,
            descriptors=self.descriptors - other.descriptors,
        )

    def __le__(self, other: Usage) -> bool:
        return (
            self.memory <= other.memory
            and self.threads <= other.threads
            and self.descriptors <= other.descriptors
        )


@dataclass(frozen=True)
class Stalls:
    """When the machine did not run a process that was ready to run."""

    output: Path

    def within(self, began: float, ended: float) -> float:
        """Seconds of stalls in a period, by time.monotonic, which all processes share."""
        lines = self.output.read_text().splitlines(keepends=True)
        found = [tuple(map(float, line.split())) for line in lines if line.endswith("\n")]
        return sum(max(min(ended, end) - max(began, start), 0) for start, end in found)


@contextmanager
def watched_stalls(output: Path) -> Iterator[Stalls]:
    """Watch for stalls for the length of the block; `output` is the file to write them to."""
    with output.open("wb") as file:
        process = subprocess.Popen([sys.executable, "-c", _WATCH], stdout=file)
    try:
        yield Stalls(output)
    finally:
        process.kill()
        process.wait()
