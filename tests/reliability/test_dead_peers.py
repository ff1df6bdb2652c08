"""Connections that were idle, and whose peer is gone: no client fails more than one call.

Each kind of client makes calls, over several connections where it has them; then the fault comes,
then one call after another.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from tests.reliability import dead_peers
from tests.reliability.callers import DEADLINE, EVERY_KIND, Callers
from tests.reliability.dead_peers import (
    drop,
    listen_within,
    lose_packets,
    refuse,
    stop_dropping,
    vanish,
)
from tests.reliability.elsewhere import CallersElsewhere, callers_elsewhere
from tests.reliability.proxy import faulty_proxies, proxies_at
from tests.reliability.table import ClientRow, as_property
from tests.reliability.trial import check_calls, none_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from tests.conftest import RunningServer
    from tests.reliability.callers import Call, Question
    from tests.reliability.proxy import FaultyProxy
    from tests.reliability.resources import Stalls

pytestmark = pytest.mark.skipif(
    not dead_peers.can_vanish(), reason="needs root on Linux, to lose packets"
)

# How many calls each client makes at least, of which the last ones must all be right.
_CALLS = 12
# A call that fails in a stall of this length says nothing about the client.
_STALL = 0.5
_HANG_SECONDS = 120.0
# Under loss: a packet is sent again after 0.2, 0.6, 1.4, 3, 6.2 s, and one that opens a connection
# after 1 and 3 s, so that no call fails by chance.
_LOSS, _LOSS_DEADLINE = 0.2, 10.0
_NAME = "models.servable.test"


class Check:
    """Waits until the calls of all clients succeed, and checks what must hold of them."""

    def __init__(self, stalls: Stalls, record: Callable[..., None]) -> None:
        self._stalls, self._record = stalls, record

    def until_right(self, callers: Callers | CallersElsewhere, since: float) -> None:
        """Wait until the last calls of each client are right; all began after a time."""
        self.until(callers, lambda calls: _are_right(calls[-_CALLS:], since))

    def until(
        self, callers: Callers | CallersElsewhere, condition: Callable[[list[Call]], bool]
    ) -> None:
        """Wait until the calls of each client meet a condition."""
        end = time.monotonic() + _HANG_SECONDS
        while not all(map(condition, self.by_client(callers).values())):
            last = {kind: calls[-1:] for kind, calls in self.by_client(callers).items()}
            assert time.monotonic() < end, last
            time.sleep(0.05)

    def by_client(self, callers: Callers | CallersElsewhere) -> dict[str, list[Call]]:
        """The calls of each client so far."""
        calls = list(callers.calls)
        return {kind: [call for call in calls if call.kind == kind] for kind in callers.kinds}

    def all_calls(self, fault: str, callers: Callers | CallersElsewhere) -> dict[str, list[Call]]:
        """Record the calls, and check their ends; returns those that failed."""
        failed = {}
        for client, calls in self.by_client(callers).items():
            failed[client] = [call for call in calls if call.error is not None]
            late = max(0.0, *(call.seconds - callers.deadline for call in calls))
            row = ClientRow(
                fault=fault, client=client, calls=len(calls), failed=len(failed[client]), late=late
            )
            self._record(*as_property(row))
        check_calls(callers.calls, callers.deadline, self._stalls)
        return {
            client: [call for call in calls
                     if self._stalls.within(call.began, call.ended) < _STALL]
            for client, calls in failed.items()
        }  # fmt: skip

    def at_most_one_failed(self, fault: str, callers: Callers | CallersElsewhere) -> None:
        """Check all calls of each client."""
        for client, calls in self.all_calls(fault, callers).items():
            none_of(f"of {client} failed", calls[1:])


def _are_right(calls: Sequence[Call], since: float) -> bool:
    return len(calls) == _CALLS and all(call.is_right and call.began > since for call in calls)


@pytest.fixture
def check(stalls: Stalls, record_property: Callable[..., None]) -> Check:
    """Checks calls."""
    return Check(stalls, record_property)


@pytest.fixture
def proxies(server: RunningServer) -> Iterator[list[FaultyProxy]]:
    """One for gRPC, and one for REST."""
    with faulty_proxies(server.port, server.rest_port) as proxies:
        yield proxies


def _addresses(proxies: Sequence[FaultyProxy], host: str = "127.0.0.1") -> dict[str, str]:
    grpc, http = proxies
    return {"grpc": f"grpc://{host}:{grpc.port}", "http": f"http://{host}:{http.port}"}


@pytest.fixture
def callers(proxies: list[FaultyProxy], question: Question) -> Callers:
    """Every kind of client, with idle connections through the proxies."""
    callers = Callers(_addresses(proxies), question, kinds=EVERY_KIND)
    callers.connect()
    return callers


@pytest.mark.parametrize(
    ("fault", "inject"),
    [
        ("black hole", vanish),
        ("reset", dead_peers.reset),
        ("half-open: gone, resets what comes", dead_peers.crash),
        ("half-open: closed while idle", dead_peers.finish),
        ("half-open: ended its side, then gone", dead_peers.finish_and_vanish),
    ],
)
def test_a_dead_peer_costs_one_call_at_most(
    callers: Callers,
    proxies: list[FaultyProxy],
    check: Check,
    fault: str,
    inject: Callable[[Sequence[FaultyProxy]], None],
) -> None:
    began = time.monotonic()
    inject(proxies)
    with callers:
        check.until_right(callers, began)
    check.at_most_one_failed(fault, callers)


def test_after_an_address_that_was_a_black_hole_no_call_fails(
    callers: Callers, proxies: list[FaultyProxy], check: Check
) -> None:
    vanish(proxies)
    for proxy in proxies:
        drop(proxy.listening)
    with callers:
        # The second call of each opens a connection, which hangs.
        check.until(callers, lambda calls: len(calls) > 1)
        for proxy in proxies:
            stop_dropping(proxy.listening)
        ended = time.monotonic()
        check.until_right(callers, ended)
    failed = check.all_calls("black hole, new connections too", callers)
    assert any(failed.values())
    for calls in failed.values():
        none_of("failed after the fault", [call for call in calls if call.began > ended])


@contextmanager
def _moving(
    server: RunningServer, folder: Path
) -> Iterator[tuple[CallersElsewhere, list[FaultyProxy], list[FaultyProxy], Callable[[], None]]]:
    """Callers of a name, the proxies at its old and new address, and what moves it."""
    _need("mount", unshared="--mount")
    hosts = folder / "hosts"
    lines = "127.0.0.1 localhost\n{} {}\n"
    hosts.write_text(lines.format("127.0.0.2", _NAME))
    ports = server.port, server.rest_port
    old = [socket.create_server(("127.0.0.2", 0)) for _ in ports]
    new = [socket.create_server(("127.0.0.3", sock.getsockname()[1])) for sock in old]
    with (
        proxies_at(dict(zip(old, ports, strict=True))) as before,
        proxies_at(dict(zip(new, ports, strict=True))) as after,
        callers_elsewhere("--mount", hosts=hosts) as callers,
    ):
        callers.connect(_addresses(before, _NAME), DEADLINE)

        def move() -> None:
            # Not truncated: without the name for a moment, it would be looked up elsewhere.
            with hosts.open("r+") as file:
                file.write(lines.format("127.0.0.3", _NAME))

        yield callers, before, after, move


@pytest.mark.parametrize("old", ["refuses", "black hole"])
def test_a_name_that_moved_costs_one_call_at_most(
    server: RunningServer, check: Check, tmp_path: Path, old: str
) -> None:
    with _moving(server, tmp_path) as (callers, before, after, move):
        began = time.monotonic()
        if old == "refuses":
            refuse(before)
            dead_peers.crash(before)
        else:
            vanish(before)
            for proxy in before:
                drop(proxy.listening)
        move()
        with callers:
            check.until_right(callers, began)
            assert all(proxy.accepted for proxy in after)
    check.at_most_one_failed(f"moved name: the old address {old}", callers)


def test_a_name_that_moves_late_costs_one_call_at_most(
    server: RunningServer, check: Check, tmp_path: Path
) -> None:
    with _moving(server, tmp_path) as (callers, before, after, move):
        refuse(before)
        dead_peers.crash(before)
        with callers:
            # The second call of each begins when connections have been refused for a deadline.
            check.until(callers, lambda calls: len(calls) > 1)
            move()
            moved = time.monotonic()
            check.until_right(callers, moved)
            assert all(proxy.accepted for proxy in after)
    failed = check.all_calls("moved name: refused for a while before", callers)
    for client, calls in failed.items():
        later = [call for call in calls if call.began > moved]
        none_of(f"of {client} failed after the name had moved", later[1:])


def test_lost_packets_cost_no_call(server: RunningServer, check: Check) -> None:
    _need("nsenter", "ip", "tc", unshared="--net")
    with callers_elsewhere("--net") as callers:
        ports = server.port, server.rest_port
        sockets = {listen_within(callers.pid): port for port in ports}
        with proxies_at(sockets) as proxies:
            callers.connect(_addresses(proxies), _LOSS_DEADLINE)
            lost = lose_packets(callers.pid, _LOSS)
            if lost.returncode:
                pytest.skip(f"this kernel cannot lose packets: {lost.stderr}")
            began = time.monotonic()
            with callers:
                check.until(
                    callers, lambda calls: len([c for c in calls if c.began > began]) >= _CALLS
                )
    check.at_most_one_failed(f"packet loss, {_LOSS:.0%}", callers)


def _need(*programs: str, unshared: str) -> None:
    missing = [program for program in (*programs, "unshare") if shutil.which(program) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}: see tests/programs")
    if subprocess.run(["unshare", unshared, "true"], check=False).returncode:
        pytest.skip(f"this process may not run unshare {unshared}")
