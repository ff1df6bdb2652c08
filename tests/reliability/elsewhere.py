"""Callers in a process of their own, which has other names of hosts or another network.

Such a process reads lines: the addresses and the deadline as JSON, then the word to begin. It
writes values pickled: whether it is connected, then its calls.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, Self

from tests.conftest import ROOT
from tests.reliability.callers import EVERY_KIND, Call, Callers, Question

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


class CallersElsewhere:
    """The methods of `Callers` that tests call, for callers of another process."""

    kinds = EVERY_KIND

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.calls: list[Call] = []
        self.deadline = 0.0
        self.pid = process.pid
        self._in: IO[bytes] = process.stdin
        self._out: IO[bytes] = process.stdout
        self._reader = threading.Thread(target=self._read, name="calls")

    def connect(self, addresses: Mapping[str, str], deadline: float) -> None:
        """Give the callers addresses, and make each have idle connections."""
        self.deadline = deadline
        self._write(json.dumps([addresses, deadline]))
        assert pickle.load(self._out) == "connected"

    def __enter__(self) -> Self:
        self._reader.start()
        self._write("begin")
        return self

    def __exit__(self, *_: object) -> None:
        self._in.close()
        self._reader.join()

    def _write(self, line: str) -> None:
        self._in.write(line.encode() + b"\n")
        self._in.flush()

    def _read(self) -> None:
        try:
            while True:
                self.calls.append(pickle.load(self._out))
        except EOFError:
            return


@contextmanager
def callers_elsewhere(*unshared: str, hosts: Path | None = None) -> Iterator[CallersElsewhere]:
    """A process of callers.

    Args:
        unshared: Options of the command `unshare`.
        hosts: What is to be its /etc/hosts.
    """
    script = "ip link set lo up; " if "--net" in unshared else ""
    script += "" if hosts is None else 'mount --bind "$2" /etc/hosts; '
    command = ["unshare", *unshared, "sh", "-ec", f'{script}exec "$1" -m {__spec__.name}', "sh"]
    # Proxies of the environment are not meant for these addresses.
    environment = {name: value for name, value in os.environ.items()
                   if not name.lower().endswith("_proxy")}  # fmt: skip
    with subprocess.Popen(
        [*command, sys.executable, str(hosts)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, cwd=ROOT,
    ) as process:  # fmt: skip
        try:
            callers = CallersElsewhere(process)
            assert pickle.load(callers._out) == "here"
            yield callers
        finally:
            process.kill()


def _main() -> None:
    out = sys.stdout.buffer

    def write(value: Any) -> None:
        pickle.dump(value, out)
        out.flush()

    write("here")
    addresses, deadline = json.loads(sys.stdin.readline())
    callers = Callers(addresses, Question.of_shipped(), deadline=deadline, kinds=EVERY_KIND)
    callers.connect()
    write("connected")
    sys.stdin.readline()
    ended = threading.Event()

    def end() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=end, daemon=True).start()
    written = 0
    with callers:
        while not ended.wait(0.05):
            new = callers.calls[written:]
            written += len(new)
            for call in new:
                write(call)
    for call in callers.calls[written:]:
        write(call)


if __name__ == "__main__":
    _main()
