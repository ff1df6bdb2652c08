"""One call at a time as an HTTP request of libcurl, without the waiting."""

from __future__ import annotations

import math
import os
import select
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from servable_client.types.operations import Failure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from servable_client.net.endpoints import Endpoint
    from servable_client.net.proxies import Proxy
    from servable_client.net.security import TLS

# As in grpc.py: an address that drops packets must not take all of the time of a call.
_CONNECT_MS = 3000
_KEEPALIVE_SECONDS = 60
_RECEIVE_BYTES = 256 << 10
_DNS_SECONDS = 5
_IDLE_SECONDS = 50

# libcurl 8.16, the first version tested after 8.12, which aborts each response: INTERNAL_ERROR.
_MIN_VERSION = 0x081000

# The variables from which grpcio reads a proxy.
_PROXY_VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")


def is_usable(endpoint: Endpoint, proxy: Proxy | None, *, trust_env: bool) -> bool:
    """Whether libcurl is installed, recent enough and supports HTTP/2, and no proxy is needed.

    The variable SERVABLE_LIBCURL=0 disables it.
    """
    proxies = _PROXY_VARIABLES if endpoint.grpc and trust_env and not endpoint.loopback else ()
    if proxy is not None or any(map(os.environ.get, proxies)):
        return False
    if not hasattr(select, "poll") or os.environ.get("SERVABLE_LIBCURL") == "0":
        return False
    try:
        import pycurl

        _, _, version, _, features, *_ = pycurl.version_info()
        return bool(version >= _MIN_VERSION and features & pycurl.VERSION_HTTP2)
    except (ImportError, AttributeError):
        # The import fails after that of TensorFlow, which loads an older libcurl of its own in
        # place of the one of pycurl. AttributeError: while an import fails in one thread, another
        # thread may see the empty module.
        return False


_Request = TypeVar("_Request")
_Reply = TypeVar("_Reply")


class Exchange(ABC, Generic[_Request, _Reply]):
    """A handle of libcurl, for one call at a time.

    Args:
        endpoint: The server.
        tls: Its TLS settings, or None for plaintext.
        version: The HTTP version, a constant of libcurl.
        other_protocol: The errors of libcurl for a response in another protocol.
    """

    def __init__(
        self, endpoint: Endpoint, tls: TLS | None, version: int, other_protocol: Sequence[int]
    ) -> None:
        import pycurl

        self._curl = pycurl
        self._other_protocol = other_protocol
        self._body: list[bytes] = []
        self._head: list[bytes] = []
        self._path = ""
        self._sent: tuple[int, Any] = (0, None)
        self.handle = handle = pycurl.Curl()
        self._base = _configure(handle, endpoint, tls)
        handle.setopt(pycurl.HTTP_VERSION, version)
        handle.setopt(pycurl.WRITEFUNCTION, self._body.append)
        handle.setopt(pycurl.HEADERFUNCTION, self._head.append)

    @abstractmethod
    def prepare(self, request: _Request, timeout: float) -> None:
        """Set the options of the handle for a request, and its timeout in seconds."""

    @abstractmethod
    def reply(self) -> _Reply:
        """The response, which is complete.

        Raises:
            Failure: It is an error status of gRPC, or not valid.
        """

    def _begin(self, path: str, timeout: float, headers: Any) -> int | None:
        """Set path and timeout; return the latter in ms if it or the headers have changed."""
        self._head.clear()
        self._body.clear()
        milliseconds = max(math.ceil(timeout * 1000), 1)
        if path != self._path:
            self.handle.setopt(self._curl.URL, self._base + path)
            self._path = path
        # Usually both are the same as for the last call.
        if (milliseconds, headers) == self._sent:
            return None
        self._sent = milliseconds, headers
        self.handle.setopt(self._curl.TIMEOUT_MS, milliseconds)
        return milliseconds

    def _received(self) -> bytes:
        return self._body[0] if len(self._body) == 1 else b"".join(self._body)

    def failure(self, code: int, reason: str) -> Failure:
        """The failure of a call without a response, by libcurl's error code and message."""
        curl = self._curl
        if code == curl.E_OPERATION_TIMEDOUT:
            # No connection was established, for which the timeout is shorter than that of the call.
            if not self.handle.getinfo(curl.PRETRANSFER_TIME) and (
                self.handle.getinfo(curl.TOTAL_TIME) * 1000 >= _CONNECT_MS
            ):
                return Failure("UNAVAILABLE", reason, unreachable=True)
            return Failure("DEADLINE_EXCEEDED", "Deadline Exceeded", unreachable=True)
        return Failure(
            "UNAVAILABLE",
            reason or f"libcurl error {code}",
            unreachable=True,
            untrusted=code == curl.E_PEER_FAILED_VERIFICATION,
            # Without a reason the server closed the connection.
            other_protocol=code in self._other_protocol and bool(reason),
        )

    def close(self) -> None:
        """Free the handle."""
        self.handle.close()


class ErrorStatus(Failure):
    """The server responded with an error status, so the connection is usable."""


def client_closed() -> Failure:
    """The failure of a call whose client is closed meanwhile."""
    return Failure("UNAVAILABLE", "the client was closed", unreachable=True)


def _configure(handle: Any, endpoint: Endpoint, tls: TLS | None) -> str:
    """Set the options that all calls share; return the base URL."""
    import pycurl

    handle.setopt(pycurl.NOSIGNAL, 1)
    handle.setopt(pycurl.PROXY, "")
    handle.setopt(pycurl.PATH_AS_IS, 1)
    # Calls of an event loop wait for a connection that they can share.
    handle.setopt(pycurl.PIPEWAIT, 1)
    handle.setopt(pycurl.TCP_NODELAY, 1)
    handle.setopt(pycurl.TCP_KEEPALIVE, 1)
    handle.setopt(pycurl.TCP_KEEPIDLE, _KEEPALIVE_SECONDS)
    handle.setopt(pycurl.MAXAGE_CONN, _IDLE_SECONDS)
    handle.setopt(pycurl.CONNECTTIMEOUT_MS, _CONNECT_MS)
    handle.setopt(pycurl.DNS_CACHE_TIMEOUT, _DNS_SECONDS)
    handle.setopt(pycurl.BUFFERSIZE, _RECEIVE_BYTES)
    if tls is None:
        return f"http://{endpoint.address}"
    if tls.ca is not None:
        handle.setopt(pycurl.CAINFO, str(tls.ca))
    else:
        _trust_well_known(handle)
    if tls.certificate is not None:
        handle.setopt(pycurl.SSLCERT, str(tls.certificate))
        handle.setopt(pycurl.SSLKEY, str(tls.key))
    if tls.server_name is None:
        return f"https://{endpoint.address}"
    name = f"{tls.server_name}:{endpoint.port}"
    handle.setopt(pycurl.CONNECT_TO, [f"{name}:{endpoint.address}"])
    return f"https://{name}"


def _trust_well_known(handle: Any) -> None:
    """Trust the authorities of certifi and of the system, as `TLS.ssl_context` does."""
    import ssl

    import certifi
    import pycurl

    system = ssl.get_default_verify_paths()
    # The system's variables come first.
    handle.setopt(pycurl.CAINFO, os.environ.get(system.openssl_cafile_env) or certifi.where())
    if system.capath is not None:
        handle.setopt(pycurl.CAPATH, system.capath)
