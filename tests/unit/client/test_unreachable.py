"""Errors say in an attribute whether a connection could be made at all."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from servable_client import Client, ConnectionFailed, DeadlineExceeded, Retry, ServableError

if TYPE_CHECKING:
    from collections.abc import Iterator

ONCE = Retry(attempts=1)
SCHEMES = pytest.mark.parametrize("scheme", ["grpc", "http"])


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that is held, and at which nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield int(sock.getsockname()[1])


@contextmanager
def refusing() -> Iterator[int]:
    """A port where each request over HTTP is answered that the server is busy."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()

        def answer() -> None:
            while True:
                try:
                    caller, _ = sock.accept()
                except OSError:
                    return
                with caller:
                    caller.recv(65536)
                    caller.sendall(
                        b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n"
                        b"Connection: close\r\n\r\n"
                    )

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield int(sock.getsockname()[1])
        finally:
            sock.shutdown(socket.SHUT_RDWR)
            thread.join()


def test_an_error_is_not_unreachable_by_itself() -> None:
    assert not ServableError("anything").unreachable


@SCHEMES
def test_a_call_without_a_listener_is_unreachable(scheme: str, closed_port: int) -> None:
    with (
        Client(f"{scheme}://127.0.0.1:{closed_port}", model="m", retry=ONCE) as client,
        pytest.raises(ConnectionFailed) as caught,
    ):
        client.status()
    assert caught.value.unreachable


@SCHEMES
def test_a_wait_without_a_listener_is_unreachable(scheme: str, closed_port: int) -> None:
    with (
        Client(f"{scheme}://127.0.0.1:{closed_port}", model="m", retry=ONCE) as client,
        pytest.raises(DeadlineExceeded) as caught,
    ):
        client.wait_until_available(timeout=0)
    assert caught.value.unreachable


def test_a_server_that_refuses_is_not_unreachable() -> None:
    with (
        refusing() as port,
        Client(f"http://127.0.0.1:{port}", model="m", retry=ONCE) as client,
        pytest.raises(ConnectionFailed) as caught,
    ):
        client.status()
    assert not caught.value.unreachable


def test_a_wait_for_a_server_that_refuses_is_not_unreachable() -> None:
    with (
        refusing() as port,
        Client(f"http://127.0.0.1:{port}", model="m", retry=ONCE) as client,
        pytest.raises(DeadlineExceeded) as caught,
    ):
        client.wait_until_available(timeout=0)
    assert not caught.value.unreachable
