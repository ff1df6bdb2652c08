"""What happens to connections whose peer is gone, by the kernel's own means.

A socket filter drops packets before TCP sees them, so that they are lost without an answer; a
socket under TCP_REPAIR is closed without a packet, as when its host lost power.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
import struct
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.reliability.proxy import FaultyProxy

# Of <asm-generic/socket.h> and <linux/tcp.h>; the module socket has no names for them.
_SO_ATTACH_FILTER, _SO_DETACH_FILTER, _TCP_REPAIR = 26, 27, 19
# One instruction: return 0, the bytes of a packet to keep.
_DROP = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0), 8)
_FILTER = struct.pack("HP", 1, ctypes.addressof(_DROP))
_CLONE_NEWNET = 0x40000000
# Where the kernel has no netem: what a filter matches goes to a device that drops it.
_LOSE_PACKETS = """
tc qdisc add dev lo root netem loss "$1" || {
    ip link add sink type veth peer name drain
    ip link set sink up
    tc qdisc add dev lo ingress
    tc filter add dev lo parent ffff: protocol all prio 1 bpf bytecode "$2" \\
        action mirred egress redirect dev sink
}
"""


def _each(proxies: Sequence[FaultyProxy], action: Callable[[asyncio.StreamWriter], Any]) -> None:
    """Do something to each connection that the proxies have accepted, in their event loop."""

    async def act() -> None:
        for proxy in proxies:
            assert proxy.accepted
            for writer in list(proxy.accepted):
                action(writer)

    asyncio.run_coroutine_threadsafe(act(), proxies[0].loop).result()


def _socket(writer: asyncio.StreamWriter) -> socket.socket:
    found: socket.socket = writer.get_extra_info("socket")
    return found


def vanish(proxies: Sequence[FaultyProxy]) -> None:
    """What callers send over open connections is lost from now on; new connections work."""
    _each(proxies, lambda writer: drop(_socket(writer)))


def reset(proxies: Sequence[FaultyProxy]) -> None:
    """Open connections are reset, while they are idle."""

    def act(writer: asyncio.StreamWriter) -> None:
        linger = struct.pack("ii", 1, 0)
        _socket(writer).setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()

    _each(proxies, act)


def crash(proxies: Sequence[FaultyProxy]) -> None:
    """The peer forgets open connections, and resets one when something comes over it."""

    def act(writer: asyncio.StreamWriter) -> None:
        _socket(writer).setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR, 1)
        writer.transport.abort()

    _each(proxies, act)


def finish(proxies: Sequence[FaultyProxy]) -> None:
    """The peer closes open connections, while they are idle."""
    _each(proxies, lambda writer: writer.close())


def finish_and_vanish(proxies: Sequence[FaultyProxy]) -> None:
    """The peer ends its side of open connections, and is gone then."""

    def act(writer: asyncio.StreamWriter) -> None:
        writer.write_eof()
        drop(_socket(writer))

    _each(proxies, act)


def drop(sock: socket.socket) -> None:
    """Lose all packets that come to a socket; to one that listens: those of new connections."""
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, _FILTER)


def stop_dropping(sock: socket.socket) -> None:
    """The opposite of `drop`."""
    sock.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)


def refuse(proxies: Sequence[FaultyProxy]) -> None:
    """Refuse new connections."""

    async def close() -> None:
        for proxy in proxies:
            proxy.server.close()

    asyncio.run_coroutine_threadsafe(close(), proxies[0].loop).result()


def listen_within(pid: int) -> socket.socket:
    """A socket that listens at the loopback address of a process's network."""

    def listen() -> socket.socket:
        # Concerns this thread only.
        with Path(f"/proc/{pid}/ns/net").open() as network:
            if ctypes.CDLL(None, use_errno=True).setns(network.fileno(), _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
        return socket.create_server(("127.0.0.1", 0))

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(listen).result()


def lose_packets(pid: int, share: float) -> subprocess.CompletedProcess[str]:
    """Lose packets at random, in both directions, at the loopback device of a process's network."""
    # Instructions: load a random number; if it is less, return -1, which matches; else 0.
    program = f"4,32 0 0 4294963256,53 1 0 {int(share * (1 << 32))},6 0 0 4294967295,6 0 0 0"
    within = ["nsenter", f"--net=/proc/{pid}/ns/net", "sh", "-ec", _LOSE_PACKETS, "sh"]
    return subprocess.run(
        [*within, f"{share:%}", program], check=False, capture_output=True, text=True
    )


def can_vanish() -> bool:
    """Whether this process may do all of this: it is root, on Linux."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return False
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as sock,
    ):
        try:
            drop(sock)
            sock.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR, 1)
        except OSError:
            return False
    return True
