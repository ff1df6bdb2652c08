"""The two sockets of `servable gateway-metrics`: syslog in, metrics out."""

from __future__ import annotations

import socket
import threading
from typing import Self

from prometheus_client import start_http_server

from servable_client._errors import ServableError
from servable_serving.gateway.metrics import GatewayMetrics

# Buffers a burst of requests while a scrape is answered.
_BUFFER = 4 << 20
_LARGEST = 1 << 16


class GatewayListener:
    """Listens for the duration of a `with` block.

    Args:
        host: Address of both.
        port: TCP port of /metrics; 0 for any free one.
        syslog_port: UDP port for the gateway's messages; 0 for any free one.

    Raises:
        ServableError: One of the ports is not available.
    """

    def __init__(self, *, host: str, port: int, syslog_port: int) -> None:
        self.metrics = GatewayMetrics()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._lines = socket.socket(family, socket.SOCK_DGRAM)
        try:
            self._lines.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
            self._lines.bind((host, syslog_port))
            self._http, self._http_thread = start_http_server(
                port, host, registry=self.metrics.registry
            )
        except OSError as error:
            self._lines.close()
            raise ServableError(
                f"cannot listen at {host}, ports {port} and {syslog_port}: {error.strerror}",
                hint="choose other ports with --port and --syslog-port",
            ) from error
        self._thread = threading.Thread(target=self._listen, name="lines", daemon=True)
        self._open = True
        self._thread.start()

    @property
    def port(self) -> int:
        """The TCP port."""
        return int(self._http.server_port)

    @property
    def syslog_port(self) -> int:
        """The UDP port."""
        return int(self._lines.getsockname()[1])

    def _listen(self) -> None:
        while self._open:
            self.metrics.read(self._lines.recv(_LARGEST))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open = False
        # An empty datagram wakes the thread; a closed socket would not.
        with socket.socket(self._lines.family, socket.SOCK_DGRAM) as waker:
            waker.sendto(b"", self._lines.getsockname())
        self._thread.join()
        self._lines.close()
        self._http.shutdown()
        self._http_thread.join()
        self._http.server_close()
