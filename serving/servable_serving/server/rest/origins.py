"""Which web pages may send requests to a server of this machine.

Any page that a user opens can make the browser POST to 127.0.0.1. Browsers tell that by the header
`Sec-Fetch-Site`, to addresses of this machine over plain HTTP too
(https://w3c.github.io/webappsec-fetch-metadata/). A page can also let a name of its own resolve to
127.0.0.1 (DNS rebinding): then the header `Host` has that name, and a POST has an `Origin`.
Programs send neither `Sec-Fetch-Site` nor `Origin`, and TensorFlow Serving looks at none of them.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from servable_serving.core.addresses import is_ip_address

_LOCAL = "localhost"
# A page of this server, or the user who typed the address.
_OWN = {"same-origin", "none"}


def allows(site: str | None, origin: str | None, host: str, names: frozenset[str]) -> bool:
    """Whether a request may come from where it comes from.

    Args:
        site: The header `Sec-Fetch-Site`; None if there is none.
        origin: The header `Origin`; None if there is none.
        host: The header `Host`.
        names: Names of the server besides addresses and localhost.
    """
    if site is not None and site not in _OWN:
        return False
    return origin is None or _is_ours(_hostname(f"//{host}"), names)


def _is_ours(name: str | None, names: frozenset[str]) -> bool:
    if name is None:
        return False
    known = name in names or name == _LOCAL or name.endswith(f".{_LOCAL}")
    return known or is_ip_address(name)


def _hostname(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None
