"""The drivers, which run flows: blocking or on an event loop, over their connections."""

from __future__ import annotations

import asyncio
import inspect
import os
import select
import threading
import time
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

from servable_client._errors import InvalidInput
from servable_client.engine.effects import Flow, Invoke, Offload, Send, Sleep

if TYPE_CHECKING:
    from collections.abc import Callable

    from servable_client.engine.core import Engine
    from servable_client.net.endpoints import Endpoint
    from servable_client.net.proxies import Proxy
    from servable_client.net.security import TLS

    _ByLoop: TypeAlias = (
        "weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Endpoint, _AsyncConnection]]"
    )

_T = TypeVar("_T")


class _Connection(Protocol):
    def send(self, request: Any, timeout: float) -> Any: ...
    def close(self) -> None: ...


class _AsyncConnection(Protocol):
    async def send(self, request: Any, timeout: float) -> Any: ...
    async def aclose(self) -> None: ...


class Driver:
    """Runs flows in the calling thread; thread-safe, and safe across forks."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._closed = False
        self._connections: dict[Endpoint, _Connection] = {}
        self._lock = threading.Lock()
        # A client that is garbage-collected without `close` closes its connections too.
        self._finalizer = weakref.finalize(self, _close_all, self._connections)
        _drivers.add(self)

    def run(self, flow: Flow[_T]) -> _T:
        """Perform the effects of a flow, and return its result."""
        try:
            effect = next(flow)
            while True:
                try:
                    if isinstance(effect, Send):
                        endpoint = effect.request.endpoint
                        connection = self._connections.get(endpoint) or self._connect(endpoint)
                        result = connection.send(effect.request, effect.timeout)
                    else:
                        result = self._do(effect)
                except BaseException as error:  # noqa: BLE001
                    effect = flow.throw(error)
                else:
                    effect = flow.send(result)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]

    def _do(self, effect: Sleep | Invoke | Offload) -> Any:
        if isinstance(effect, Sleep):
            time.sleep(effect.seconds)
            return None
        return effect.function()

    def _connect(self, endpoint: Endpoint) -> _Connection:
        with self._lock:
            _refuse_if(self._closed)
            connection = self._connections.get(endpoint)
            if connection is None:
                tls = self._engine.tls if endpoint.secure else None
                proxy = self._engine.proxies[endpoint]
                connection = _connection(endpoint, tls, proxy, self._engine.trust_env)
                self._connections[endpoint] = connection
            return connection

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            self._closed = True
        self._finalizer()

    def after_fork(self) -> None:
        """In a child process: abandon the connections of the parent, and recreate the locks."""
        self._finalizer.detach()
        _abandon(self._connections)
        self._connections = {}
        self._finalizer = weakref.finalize(self, _close_all, self._connections)
        self._lock = threading.Lock()
        self._engine.reset()


class AsyncDriver:
    """Runs flows in event loops, each of which has connections of its own."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._closed = False
        self._connections: _ByLoop = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()
        _drivers.add(self)

    async def run(self, flow: Flow[_T]) -> _T:
        """Perform the effects of a flow, and return its result."""
        try:
            effect = next(flow)
            while True:
                try:
                    if isinstance(effect, Send):
                        connection = self._connection(effect.request.endpoint)
                        result = await connection.send(effect.request, effect.timeout)
                    else:
                        result = await self._do(effect)
                except BaseException as error:  # noqa: BLE001
                    effect = flow.throw(error)
                else:
                    effect = flow.send(result)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]

    async def _do(self, effect: Sleep | Invoke | Offload) -> Any:
        if isinstance(effect, Sleep):
            return await asyncio.sleep(effect.seconds)
        if isinstance(effect, Invoke):
            result = effect.function()
            return await result if inspect.isawaitable(result) else result
        return await asyncio.to_thread(effect.function)

    def _connection(self, endpoint: Endpoint) -> _AsyncConnection:
        connections = self._connections.get(asyncio.get_running_loop())
        connection = None if connections is None else connections.get(endpoint)
        return connection or self._connect(endpoint)

    def _connect(self, endpoint: Endpoint) -> _AsyncConnection:
        with self._lock:
            _refuse_if(self._closed)
            tls = self._engine.tls if endpoint.secure else None
            proxy = self._engine.proxies[endpoint]
            connection = _async_connection(endpoint, tls, proxy, self._engine.trust_env)
            loop = asyncio.get_running_loop()
            self._connections.setdefault(loop, {})[endpoint] = connection
            return connection

    async def close(self) -> None:
        """Close all connections."""
        with self._lock:
            self._closed = True
            connections, self._connections = self._connections, weakref.WeakKeyDictionary()
        running = asyncio.get_running_loop()
        for loop, own in connections.items():
            for connection in own.values():
                if loop is running:
                    await connection.aclose()
                elif loop.is_running():
                    asyncio.run_coroutine_threadsafe(connection.aclose(), loop)

    def after_fork(self) -> None:
        """In a child process: abandon the connections of the parent, and recreate the locks."""
        _abandon(list(self._connections.values()))
        self._connections = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()
        self._engine.reset()


def _connection(
    endpoint: Endpoint, tls: TLS | None, proxy: Proxy | None, trust_env: bool
) -> _Connection:
    """A connection over libcurl if possible, which takes half the processor time of the others."""
    exchange = _exchange(endpoint, tls, proxy, trust_env)
    if exchange is not None:
        from servable_client.transport.curl import CurlChannel

        return CurlChannel(exchange)
    if endpoint.grpc:
        from servable_client.transport.grpc import GrpcChannel

        return GrpcChannel(endpoint, tls, proxy, trust_env=trust_env)
    from servable_client.transport.http import HttpPool

    return HttpPool(endpoint, tls, proxy)


def _async_connection(
    endpoint: Endpoint, tls: TLS | None, proxy: Proxy | None, trust_env: bool
) -> _AsyncConnection:
    """Likewise for asyncio, on Linux."""
    exchange = _exchange(endpoint, tls, proxy, trust_env) if hasattr(select, "epoll") else None
    if exchange is not None:
        from servable_client.transport.curl_async import AsyncCurlChannel

        return AsyncCurlChannel(exchange)
    if endpoint.grpc:
        from servable_client.transport.grpc import AsyncGrpcChannel

        return AsyncGrpcChannel(endpoint, tls, proxy, trust_env=trust_env)
    from servable_client.transport.http import AsyncHttpPool

    return AsyncHttpPool(endpoint, tls, proxy)


def _exchange(
    endpoint: Endpoint, tls: TLS | None, proxy: Proxy | None, trust_env: bool
) -> Callable[[], Any] | None:
    """What makes an exchange of libcurl; None if that cannot be used."""
    from servable_client.transport.curl_exchange import is_usable

    if not is_usable(endpoint, proxy, trust_env=trust_env):
        return None
    if endpoint.grpc:
        from servable_client.transport.curl_grpc import GrpcExchange

        return partial(GrpcExchange, endpoint, tls)
    from servable_client.transport.curl_http import HttpExchange

    return partial(HttpExchange, endpoint, tls)


def _close_all(connections: dict[Endpoint, _Connection]) -> None:
    while connections:
        connections.popitem()[1].close()


def _refuse_if(closed: bool) -> None:
    if closed:
        raise InvalidInput("this client is closed", hint="create a new one")


_drivers: weakref.WeakSet[Driver | AsyncDriver] = weakref.WeakSet()


def _abandon(connections: object) -> None:
    """Leak the connections: closing them would end those of the parent at the server.

    A list in this module would be destroyed when the interpreter of the child exits.
    """
    import ctypes

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(connections))


def _after_fork() -> None:
    for driver in list(_drivers):
        driver.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
