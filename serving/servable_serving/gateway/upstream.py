"""Resolves the servers' host names."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from servable_serving.core.addresses import is_ip_address

if TYPE_CHECKING:
    from collections.abc import Iterable

LOOKUP_SECONDS = 5.0


def resolve(names: Iterable[str], seconds: float = LOOKUP_SECONDS) -> tuple[str, ...]:
    """The addresses of some names, in order, each once; IPv6 if a name has no IPv4.

    Args:
        names: Host names or addresses.
        seconds: The longest that one lookup may take.
    """
    found: set[str] = set()
    for name in names:
        if is_ip_address(name):
            found.add(name)
        else:
            found.update(_lookup("ahostsv4", name, seconds) or _lookup("ahostsv6", name, seconds))
    return tuple(sorted(found))


def _lookup(database: str, name: str, seconds: float) -> list[str]:
    # By a program rather than getaddrinfo, which cannot be interrupted: an unresponsive name server
    # would block reloads, and the shutdown, for its own timeouts.
    try:
        done = subprocess.run(
            ["getent", database, name], capture_output=True, text=True, check=False, timeout=seconds
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return parse_getent(done.stdout) if done.returncode == 0 else []


def parse_getent(output: str) -> list[str]:
    """The addresses that `getent ahosts` printed."""
    words = (line.split()[0] for line in output.splitlines() if line.strip())
    return [word for word in words if is_ip_address(word)]
