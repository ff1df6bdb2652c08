"""Servers that are killed, frozen, or short of memory or descriptors, and clocks that move."""

from __future__ import annotations

import os
import resource
import signal
import socket
import threading
from contextlib import ExitStack, contextmanager, suppress
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import requests
from tests.conftest import NAME, SHIPPED, serving
from tests.forked import FreshServer
from tests.functional.serving.calls import eventually
from tests.reliability.resources import writable_memory

from servable_client import Client, Retry, ServableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import RunningServer
    from tests.reliability.callers import Question
    from tests.reliability.conftest import Begin

ONCE = Retry(attempts=1)
# Debian's package libfaketime; elsewhere it has other places.
_FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
# What a server may still open or allocate when its limit is set.
_SPARE_DESCRIPTORS, _SPARE_MEMORY = 3, 64 << 20
# Images of a request that needs more memory than that.
_LARGE = 1000


@contextmanager
def limited(pid: int, kind: int, soft: int) -> Iterator[None]:
    """Lower a limit of a process until the end of the block, if it lives that long."""
    before = resource.prlimit(pid, kind)
    resource.prlimit(pid, kind, (soft, before[1]))
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            resource.prlimit(pid, kind, before)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server that may end, started as a user starts it."""
    log = tmp_path_factory.mktemp("own") / "log"
    with serving(SHIPPED.parent, log, start=FreshServer) as server:
        yield server


def test_a_server_that_is_killed_and_started_again(trial: Begin, own: RunningServer) -> None:
    with trial("killed", own) as found:
        for _ in range(found.rounds):
            with found.injected():
                own.process.kill()
                found.until_failed()
                own.restart()


def test_a_server_that_is_frozen(trial: Begin, server: RunningServer) -> None:
    with trial("frozen", server) as found:
        for _ in range(found.rounds):
            with found.injected():
                server.process.send_signal(signal.SIGSTOP)
                try:
                    found.until_failed()
                finally:
                    server.process.send_signal(signal.SIGCONT)


def test_a_server_without_descriptors(
    trial: Begin, server: RunningServer, question: Question
) -> None:
    """New connections wait or are closed; those that are open are served."""
    images = {"image": question.images}
    with (
        Client(server.grpc, model=NAME, timeout=60, retry=ONCE) as grpc,
        Client(server.http, model=NAME, timeout=60, retry=ONCE) as http,
    ):
        kept = (grpc, http)
        assert all(question.is_right(client.predict(images)) for client in kept)
        with trial("descriptors exhausted", server, fresh=True) as found:
            for _ in range(found.rounds):
                with found.injected(), _without_descriptors(server):
                    found.until_failed()
                    assert all(question.is_right(client.predict(images)) for client in kept)


@contextmanager
def _without_descriptors(server: RunningServer) -> Iterator[None]:
    """More connections than the server may have descriptors, until the end of the block."""
    pid = server.process.pid
    highest = max(int(entry.name) for entry in Path(f"/proc/{pid}/fd").iterdir())
    most = highest + 1 + _SPARE_DESCRIPTORS
    with limited(pid, resource.RLIMIT_NOFILE, most), ExitStack() as stack:
        # Of both ports, since each would serve on with what the other has left.
        for port in (server.port, server.rest_port) * most:
            stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        yield


def test_a_server_without_memory(trial: Begin, own: RunningServer) -> None:
    """Most allocations that fail in TensorFlow end the process, which is then started again."""
    with trial("memory exhausted", own) as found, supervised(own):
        for _ in range(found.rounds):
            with found.injected():
                _exhaust_memory(own)


@contextmanager
def supervised(server: RunningServer) -> Iterator[None]:
    """Start a server again whenever it ends, as Docker and Kubernetes do."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            if server.process.poll() is not None:
                server.restart()

    watcher = threading.Thread(target=watch, name="supervisor")
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def _exhaust_memory(server: RunningServer) -> None:
    """Send large requests to a server that may allocate little more, until it refuses or ends."""
    pid = server.process.pid
    images = np.zeros([_LARGE, 28, 28], np.uint8)
    refused = threading.Event()

    def ask() -> None:
        with Client(server.grpc, model=NAME, timeout=60, retry=ONCE) as client:
            while not refused.is_set():
                try:
                    client.predict({"image": images})
                except ServableError:
                    refused.set()

    # Not RLIMIT_AS: it counts what glibc has reserved for each thread, which is enough for a while.
    with limited(pid, resource.RLIMIT_DATA, writable_memory(pid) + _SPARE_MEMORY):
        askers = [threading.Thread(target=ask) for _ in range(4)]
        for asker in askers:
            asker.start()
        for asker in askers:
            asker.join()


def date_of(server: RunningServer) -> float:
    """What the clock of a server shows, by its responses."""
    response = requests.get(f"{server.http}/v1/models/{NAME}", timeout=60)
    return parsedate_to_datetime(response.headers["date"]).timestamp()


@pytest.mark.skipif(_FAKETIME is None, reason="libfaketime is not installed")
def test_a_clock_that_moves(trial: Begin, tmp_path: Path) -> None:
    offset = tmp_path / "offset"
    offset.write_text("+0")
    environment = {
        **os.environ,
        "LD_PRELOAD": str(_FAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_CACHE_DURATION": "1",
        # The monotonic clock does not move with the wall clock.
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    start = partial(FreshServer, env=environment)
    with (
        serving(SHIPPED.parent, tmp_path / "log", start=start) as server,
        trial("clock moved", server, spared=True) as found,
    ):
        for _ in range(found.rounds):
            for days in (2, 0):
                before = date_of(server)
                with found.injected():
                    offset.write_text(f"{days:+}d")
                    eventually(lambda: abs(date_of(server) - before) > 86400)  # noqa: B023
                    found.until_answered()
