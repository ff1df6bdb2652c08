"""Addresses to listen at."""

from __future__ import annotations

import socket
from contextlib import suppress

from servable_client import ServableError


def bind(host: str, port: int, flag: str) -> socket.socket:
    """A socket bound to an address, which does not listen yet.

    Args:
        host: The address.
        port: The port.
        flag: The flag that named it, for the hint.

    Raises:
        ServableError: The address is in use, or not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named: asyncio switches Nagle's algorithm off only where it is, and
    # with it on each answer waits 40 ms for the client's delayed acknowledgement.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except (OSError, OverflowError) as error:
        sock.close()
        raise in_use(host, port, flag, error) from None
    return sock


def check(host: str, port: int, flag: str) -> None:
    """Hold an address against those in use.

    Raises:
        ServableError: As `bind`.
    """
    bind(host, port, flag).close()


def check_socket(path: str) -> None:
    """Hold a UNIX socket's path against those in use: gRPC would take it from whoever listens.

    Raises:
        ServableError: Somebody listens there.
    """
    with socket.socket(socket.AF_UNIX) as sock, suppress(OSError):
        sock.connect(path)
        raise ServableError(
            f"cannot listen at {path}: Address already in use",
            hint="stop what listens there, or choose another path with --grpc_socket_path",
        )


def in_use(host: str, port: int, flag: str, error: Exception) -> ServableError:
    """The error of an address that cannot be had."""
    reason = getattr(error, "strerror", None) or str(error)
    return ServableError(
        f"cannot listen at {host}:{port}: {reason}",
        hint=f"stop what listens there, or choose another port with {flag}",
    )


def check_free(port: int, flag: str, *, error: type[ServableError]) -> None:
    """Refuse a port that another program listens at.

    Args:
        port: The port, at 127.0.0.1.
        flag: The option that names another.
        error: What is raised.

    Raises:
        ServableError: `error`, where it is taken or no port at all.
    """
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as caught:
            raise error(
                f"cannot listen at port {port}: {getattr(caught, 'strerror', None) or caught}",
                hint=f"stop what listens there, or choose another port with {flag}",
            ) from None
