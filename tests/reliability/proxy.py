"""A TCP proxy that breaks connections as networks and peers do."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import threading
from contextlib import asynccontextmanager, contextmanager
from enum import Enum, auto
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence

_CHUNK = 64 << 10
# Bytes of an answer that come before the connection breaks: none, or some; an answer and what HTTP
# adds to it are longer.
_PART = 300
# Closes by a reset in place of an orderly end.
_RESET = struct.pack("ii", 1, 0)


class Fault(Enum):
    """What happens to every connection, once some of the answer has passed."""

    NONE = auto()
    SLOW = auto()  # each piece comes late, and within the deadline
    TOO_SLOW = auto()  # the bytes come one by one, and the last one long after the deadline
    SLOW_REQUEST = auto()  # the same of the request
    SILENT = auto()  # nothing more comes until the fault has ended, as when packets are lost
    SERVER_CLOSES = auto()  # the server's end of the connection is closed, the other is not
    CALLER_CLOSES = auto()  # the caller's end of the connection is closed, the other is not
    RESET = auto()


class FaultyProxy:
    """Passes connections on to a port of this machine.

    Attributes:
        fault: What happens now to connections; set it from any thread.
        listening: The socket that accepts its connections.
        port: Its port.
        broken: How many connections it has broken, or delayed.
        accepted: The connections of callers that are open.
        loop: The event loop that it runs in.
        server: What accepts its connections.
    """

    loop: asyncio.AbstractEventLoop
    server: asyncio.Server

    def __init__(self, upstream: int, listening: socket.socket) -> None:
        self.fault = Fault.NONE
        self.broken = 0
        self.listening = listening
        self.port: int = listening.getsockname()[1]
        self.accepted: set[asyncio.StreamWriter] = set()
        self._upstream = upstream

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass one connection on, in both directions."""
        async with _closed(writer), self._noted(writer):
            try:
                up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._upstream)
            except OSError:
                return
            async with _closed(up_writer):
                directions = [
                    asyncio.ensure_future(self._pass(reader, up_writer, request=True)),
                    asyncio.ensure_future(self._pass(up_reader, writer, request=False)),
                ]
                try:
                    await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for direction in directions:
                        direction.cancel()
                    await asyncio.gather(*directions, return_exceptions=True)

    @asynccontextmanager
    async def _noted(self, writer: asyncio.StreamWriter) -> AsyncIterator[None]:
        self.accepted.add(writer)
        try:
            yield
        finally:
            self.accepted.discard(writer)

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, request: bool
    ) -> None:
        """Pass bytes in one direction, until it ends or the connection breaks."""
        while data := await reader.read(_CHUNK):
            if self.fault is not Fault.NONE:
                data = await self._disturb(data, writer, request=request)
            writer.write(data)
            await writer.drain()

    async def _disturb(self, data: bytes, writer: asyncio.StreamWriter, *, request: bool) -> bytes:
        """Apply the fault to some bytes; returns what is to be passed on."""
        fault = self.fault
        if request is not (fault in {Fault.SLOW_REQUEST, Fault.CALLER_CLOSES}):
            return data
        self.broken += 1
        if fault is Fault.SLOW:
            await asyncio.sleep(0.1)
        elif fault in {Fault.TOO_SLOW, Fault.SLOW_REQUEST}:
            while data and self.fault is fault:
                writer.write(data[:1])
                await writer.drain()
                data = data[1:]
                await asyncio.sleep(0.1)
        elif fault is Fault.SILENT:
            while self.fault is fault:
                await asyncio.sleep(0.02)
        else:
            writer.write(data[: random.randint(0, _PART)])
            await writer.drain()
            if fault is Fault.RESET:
                end: socket.socket = writer.get_extra_info("socket")
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                writer.transport.abort()
                raise ConnectionResetError
            writer.write_eof()
            while self.fault is fault:  # the other end stays open
                await asyncio.sleep(0.02)
            raise ConnectionAbortedError
        return data


@asynccontextmanager
async def _closed(writer: asyncio.StreamWriter) -> AsyncIterator[None]:
    try:
        yield
    finally:
        writer.close()


async def _run(proxies: Sequence[FaultyProxy], ended: asyncio.Event) -> None:
    """Serve until `ended` is set."""
    tasks: set[asyncio.Task[None]] = set()

    def accept(proxy: FaultyProxy) -> Callable[..., None]:
        return lambda *streams: tasks.add(asyncio.ensure_future(proxy.serve(*streams)))

    for proxy in proxies:
        proxy.server = await asyncio.start_server(accept(proxy), sock=proxy.listening)
    await ended.wait()
    for proxy in proxies:
        proxy.server.close()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@contextmanager
def faulty_proxies(*ports: int) -> Iterator[list[FaultyProxy]]:
    """A proxy in front of each of some ports of this machine, until the end of the block."""
    with proxies_at({socket.create_server(("127.0.0.1", 0)): port for port in ports}) as proxies:
        yield proxies


@contextmanager
def proxies_at(ports: Mapping[socket.socket, int]) -> Iterator[list[FaultyProxy]]:
    """Likewise, by the sockets that listen for them."""
    proxies = [FaultyProxy(port, listening) for listening, port in ports.items()]
    with asyncio.Runner() as runner:
        loop, ended = runner.get_loop(), asyncio.Event()
        for proxy in proxies:
            proxy.loop = loop
        thread = threading.Thread(target=runner.run, args=(_run(proxies, ended),), name="proxies")
        thread.start()
        try:
            yield proxies
        finally:
            loop.call_soon_threadsafe(ended.set)
            thread.join()
