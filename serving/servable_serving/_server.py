"""The embedded server: TensorFlow Serving's two protocols over one set of models."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from typing import TYPE_CHECKING, Self

import uvicorn

from servable_client import ServableError
from servable_serving._grpc import grpc_server
from servable_serving._manager import ModelManager
from servable_serving._models import Models
from servable_serving._rest import rest_app

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    import grpc

_log = logging.getLogger("servable.serving")

_GRACE_SECONDS = 10.0
_BACKLOG = 128


class ServerError(ServableError):
    """The server cannot start."""


class Server:
    """Serves a model from its version folders.

        with Server("fashion_mnist", Path("models/fashion_mnist"), port=8500) as server:
            server.wait()

    Args:
        name: The model's name.
        base_path: The folder with the version folders.
        host: The address to listen at.
        port: gRPC's port; 0 for none.
        rest_port: REST's port; 0 for none.
        poll_seconds: How often to look for versions.
        grpc_threads: How many gRPC calls are worked on at once.
    """

    def __init__(
        self,
        name: str,
        base_path: Path,
        *,
        host: str = "127.0.0.1",
        port: int = 8500,
        rest_port: int = 0,
        poll_seconds: float = 1.0,
        grpc_threads: int = 16,
    ) -> None:
        self._models = Models([ModelManager(name, base_path, poll_seconds=poll_seconds)])
        self._host, self._port, self._rest_port = host, port, rest_port
        self._grpc_threads = grpc_threads
        self._grpc: grpc.Server | None = None
        self._rest: _RestThread | None = None
        self._stopping = threading.Event()

    def start(self) -> None:
        """Load the first version, then open the ports; waits for a version to appear.

        Raises:
            ServerError: A port is in use, or the first version failed to load.
        """
        # Before the models: a port in use is known at once and not after a minute's loading.
        # They are open to connect to from here, and answered only from serve() on.
        if not self._host or not (self._port or self._rest_port):
            raise ServerError("there is no address to listen at", hint="give --host and a port")
        if self._port == self._rest_port:
            raise ServerError(
                f"gRPC and REST cannot both listen at port {self._port}",
                hint="choose another port with --rest_api_port",
            )
        for manager in self._models:
            if manager.base_path.exists() and not manager.base_path.is_dir():
                raise ServerError(
                    f"{manager.base_path} is a file",
                    hint="--model_base_path names the folder with the version folders",
                )
        try:
            if self._port:
                self._check_port(self._port, "--port")
            if self._rest_port:
                self._rest = _RestThread(
                    self._models, self._bind(self._rest_port, "--rest_api_port")
                )
            for manager in self._models:
                manager.start()
            for manager in self._models:
                while not manager.wait_until_settled(0.2):
                    if self._stopping.is_set():
                        return
                if failure := manager.failure():
                    raise ServerError(
                        f"{manager.name} failed to load: {failure}",
                        code=failure.code,
                        hint=f"mend or remove the version under {manager.base_path}",
                    )
            if self._port:
                self._grpc = self._start_grpc()
            if self._rest:
                self._rest.start()
        except BaseException:
            self.stop()
            raise

    @property
    def stopping(self) -> bool:
        """Whether it was asked to stop."""
        return self._stopping.is_set()

    def wait(self) -> None:
        """Serve until `stop` is called, by a signal's handler for example."""
        self._stopping.wait()

    def ask_to_stop(self) -> None:
        """Let `start` or `wait` return; safe to call in a signal's handler."""
        self._stopping.set()

    def stop(self) -> None:
        """Take no more requests, finish those in flight, unload the models."""
        self._stopping.set()
        ended = self._grpc.stop(_GRACE_SECONDS) if self._grpc else None
        if self._rest:
            self._rest.stop()
        if ended:
            ended.wait()
        self._grpc = self._rest = None
        for manager in self._models:
            manager.stop(grace=_GRACE_SECONDS)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _start_grpc(self) -> grpc.Server:
        try:
            server = grpc_server(
                self._models,
                address=f"{_bracketed(self._host)}:{self._port}",
                threads=self._grpc_threads,
            )
        except OSError as error:
            raise self._in_use(self._port, "--port", error) from None
        server.start()
        return server

    def _check_port(self, port: int, flag: str) -> None:
        self._bind(port, flag).close()

    def _bind(self, port: int, flag: str) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        # With the protocol named: asyncio switches Nagle's algorithm off only where it is, and
        # with it on each answer waits 40 ms for the client's delayed acknowledgement.
        sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((self._host, port))
        except (OSError, OverflowError) as error:
            sock.close()
            raise self._in_use(port, flag, error) from None
        return sock

    def _in_use(self, port: int, flag: str, error: Exception) -> ServerError:
        reason = getattr(error, "strerror", None) or str(error)
        return ServerError(
            f"cannot listen at {self._host}:{port}: {reason}",
            hint=f"stop what listens there, or choose another port with {flag}",
        )


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


class _RestThread:
    """uvicorn in a thread of its own, over a socket that is bound already."""

    def __init__(self, models: Models, sock: socket.socket) -> None:
        self._sock = sock
        self._server = uvicorn.Server(
            uvicorn.Config(
                rest_app(models),
                log_config=None,
                log_level="warning",
                access_log=False,
                lifespan="off",
                ws="none",
                http="httptools",
                timeout_graceful_shutdown=int(_GRACE_SECONDS),
                server_header=False,
            )
        )
        self._thread = threading.Thread(target=self._run, name="rest", daemon=True)

    def start(self) -> None:
        self._sock.listen(_BACKLOG)
        self._thread.start()

    def stop(self) -> None:
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join()
        self._sock.close()

    def _run(self) -> None:
        asyncio.run(self._server.serve([self._sock]))
