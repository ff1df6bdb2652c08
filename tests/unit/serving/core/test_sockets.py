"""Checks of addresses, with ports that the system chooses."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from servable_client import ServableError
from servable_serving.core.sockets import (
    bind,
    check,
    check_free,
    check_socket,
    free_ports,
    in_use,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class PortError(ServableError):
    """An error of the caller's own."""


@pytest.fixture
def port() -> Iterator[int]:
    """A port that somebody listens at."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        yield int(sock.getsockname()[1])


def test_a_socket_is_bound_and_does_not_listen() -> None:
    with bind("127.0.0.1", 0, "--port") as sock, socket.socket() as caller:
        assert caller.connect_ex(sock.getsockname()) != 0
        assert sock.getsockname()[0] == "127.0.0.1"


def test_a_bound_socket_names_its_protocol() -> None:
    # Else asyncio leaves Nagle's algorithm on.
    with bind("127.0.0.1", 0, "--port") as sock:
        assert sock.proto == socket.IPPROTO_TCP


def test_a_port_in_use_is_refused(port: int) -> None:
    with pytest.raises(ServableError, match=f"127.0.0.1:{port}: Address already in use") as caught:
        bind("127.0.0.1", port, "--rest_api_port")
    assert "--rest_api_port" in (caught.value.hint or "")


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(ServableError, match=r"192\.0\.2\.1:0"):
        bind("192.0.2.1", 0, "--port")


@pytest.mark.parametrize("port", [-1, 65536, 100_000])
def test_a_number_that_is_not_a_port_is_refused(port: int) -> None:
    with pytest.raises(ServableError, match="0-65535"):
        check("127.0.0.1", port, "--port")


def test_a_checked_address_stays_free() -> None:
    (port,) = free_ports(1)
    check("127.0.0.1", port, "--port")
    check("127.0.0.1", port, "--port")


def test_a_free_port_passes() -> None:
    (port,) = free_ports(1)
    check_free(port, "--port", error=PortError)


def test_a_port_in_use_raises_the_callers_error(port: int) -> None:
    with pytest.raises(PortError) as caught:
        check_free(port, "--rest-api-port", error=PortError)
    assert "--rest-api-port" in (caught.value.hint or "")
    assert str(port) in caught.value.message


def test_a_unix_socket_without_a_listener_passes(tmp_path: Path) -> None:
    check_socket(str(tmp_path / "socket"))


def test_a_unix_socket_that_was_left_behind_passes(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)
    check_socket(path)


def test_a_unix_socket_in_use_is_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)
        sock.listen()
        with pytest.raises(ServableError, match="Address already in use") as caught:
            check_socket(path)
    assert "--grpc_socket_path" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(13, "Permission denied"), "Permission denied"),
        (OverflowError("0-65535"), "0-65535"),
    ],
)
def test_the_error_gives_the_reason(error: Exception, reason: str) -> None:
    assert in_use("::1", 80, "--port", error).message == f"cannot listen at ::1:80: {reason}"


def test_free_ports_are_different() -> None:
    assert len(set(free_ports(20))) == 20


def test_no_free_ports_are_none() -> None:
    assert free_ports(0) == []
