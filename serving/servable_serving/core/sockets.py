"""Checks of addresses before something listens at them."""

from __future__ import annotations

import socket
from contextlib import ExitStack, suppress

from servable_client import ServableError


def bind(host: str, port: int, flag: str) -> socket.socket:
    """Bind a socket, which does not listen yet.

    Args:
        host: The address.
        port: The port; 0 for any free one.
        flag: The option that sets the port, for the hint.

    Raises:
        ServableError: The address is in use, or does not belong to this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With an explicit protocol, without which asyncio does not disable Nagle's algorithm; each
    # response would then wait 40 ms for the client's delayed acknowledgement.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except (OSError, OverflowError) as error:
        sock.close()
        raise in_use(host, port, flag, error) from None
    return sock


def check(host: str, port: int, flag: str) -> None:
    """Fail if an address cannot be listened at.

    Raises:
        ServableError: As `bind`.
    """
    bind(host, port, flag).close()


def check_free(port: int, flag: str, *, error: type[ServableError]) -> None:
    """Fail if a port of this machine is in use.

    Args:
        port: The port, at 127.0.0.1.
        flag: The option that sets another one, for the hint.
        error: The class to raise.

    Raises:
        ServableError: An `error`: the port is in use or not a valid port.
    """
    try:
        check("127.0.0.1", port, flag)
    except ServableError as caught:
        raise error(caught.message, hint=caught.hint) from None


def check_socket(path: str) -> None:
    """Fail if a program listens at a UNIX socket: gRPC would take over the path.

    Raises:
        ServableError: It does.
    """
    with socket.socket(socket.AF_UNIX) as sock, suppress(OSError):
        sock.connect(path)
        raise ServableError(
            f"cannot listen at {path}: Address already in use",
            hint="stop what listens there, or choose another path with --grpc_socket_path",
        )


def in_use(host: str, port: int, flag: str, error: Exception) -> ServableError:
    """The error of an address that cannot be listened at."""
    reason = getattr(error, "strerror", None) or str(error)
    return ServableError(
        f"cannot listen at {host}:{port}: {reason}",
        hint=f"stop what listens there, or choose another port with {flag}",
    )


def free_ports(count: int) -> list[int]:
    """Ports of this machine that are free at the moment, all different."""
    with ExitStack() as held:
        socks = [held.enter_context(socket.socket()) for _ in range(count)]
        for sock in socks:
            sock.bind(("127.0.0.1", 0))
        return [int(sock.getsockname()[1]) for sock in socks]
