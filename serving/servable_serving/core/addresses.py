"""What an address is, and a host in one."""

from __future__ import annotations

import ipaddress
from typing import TypeGuard


def is_url(repository: object) -> TypeGuard[str]:
    """Whether a repository is a URL, and not a folder."""
    return isinstance(repository, str) and "://" in repository


def is_loopback(address: str) -> bool:
    """Whether an address is reachable only from this machine."""
    address = address.strip("[]")
    return address == "localhost" or (
        is_ip_address(address) and ipaddress.ip_address(address).is_loopback
    )


def is_ip_address(text: str) -> bool:
    """Whether a host is an IP address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
