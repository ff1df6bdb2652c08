"""Unary gRPC calls over libcurl, for threads.

A unary call is one HTTP/2 request: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md.
libcurl makes it in the calling thread, whereas grpcio hands it to threads of its own and back,
which takes more processor time than the rest of a call (benchmarks/client.py). Concurrent calls
have a connection each; idle connections are reused.

Proxies and asyncio are not supported here; grpcio is used for them.
"""

from __future__ import annotations

import base64
import binascii
import math
import os
import re
import select
import struct
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from servable_client.codec.grpc import NOT_ONE_MESSAGE, code_by_number, delay_of
from servable_client.types.operations import Failure

if TYPE_CHECKING:
    from collections.abc import Iterable

    from servable_client.codec.grpc import GrpcRequest, Headers
    from servable_client.net.endpoints import Endpoint
    from servable_client.net.proxies import Proxy
    from servable_client.net.security import TLS

# As in grpc.py: an address that drops packets must not take all of the time of a call.
_CONNECT_MS = 3000
_KEEPALIVE_SECONDS = 60
# How often a waiting call checks whether the client was closed.
_CLOSE_CHECK_MS = 250
_RECEIVE_BYTES = 256 << 10
_DNS_SECONDS = 5
_IDLE_SECONDS = 50

_HEADERS = (
    "user-agent: servable-client", "content-type: application/grpc", "te: trailers",
    # Disable these two, which libcurl would send by default.
    "accept:", "expect:",
)  # fmt: skip
# libcurl 8.16, the first version tested after 8.12, which aborts each response: INTERNAL_ERROR.
_MIN_VERSION = 0x081000
# CURLE_HTTP2_STREAM, which pycurl has no name for: https://curl.se/libcurl/c/libcurl-errors.html
_HTTP2_STREAM = 92
_SUCCESS = b"grpc-status: 0\r\n"
_PREFIX = struct.Struct(">BI")

# https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md
_BY_HTTP = {
    400: "INTERNAL", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "UNIMPLEMENTED",
    429: "UNAVAILABLE", 502: "UNAVAILABLE", 503: "UNAVAILABLE", 504: "UNAVAILABLE",
}  # fmt: skip
# Section "Errors" of the same document: the codes for a stream that the server reset. But for
# INTERNAL_ERROR, 2: a proxy resets a stream with it whose server went away, and every request may
# be sent again.
_BY_HTTP2 = {
    2: "UNAVAILABLE", 7: "UNAVAILABLE", 8: "CANCELLED", 11: "RESOURCE_EXHAUSTED",
    12: "PERMISSION_DENIED",
}  # fmt: skip
# libcurl reports the HTTP/2 error code in its text only: "(err 2)", or "(error 0x2 ...)" for a
# stream that was reset before it had answered.
_HTTP2_CODE = re.compile(r"\((?:err|error) (0x[0-9a-f]+|\d+)\b", re.IGNORECASE)

# The variables from which grpcio reads a proxy.
_PROXY_VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")


def is_usable(endpoint: Endpoint, proxy: Proxy | None, *, trust_env: bool) -> bool:
    """Whether libcurl is installed, recent enough and supports HTTP/2, and no proxy is needed.

    The variable SERVABLE_GRPC=grpcio disables it.
    """
    if proxy is not None:
        return False
    if trust_env and not endpoint.loopback and any(map(os.environ.get, _PROXY_VARIABLES)):
        return False
    if not hasattr(select, "poll") or os.environ.get("SERVABLE_GRPC") == "grpcio":
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


class CurlChannel:
    """The connections to one server; thread-safe."""

    def __init__(self, endpoint: Endpoint, tls: TLS | None) -> None:
        self._endpoint = endpoint
        self._tls = tls
        self._idle: list[_Connection] = []
        self.closed = False

    def send(self, request: GrpcRequest, timeout: float) -> bytes:
        """Send a request once.

        Raises:
            Failure: The attempt failed.
        """
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = _Connection(self._endpoint, self._tls)
        try:
            message = connection.send(request, timeout, self)
        except _ErrorStatus:
            # The server responded, so the connection is usable.
            self._keep(connection)
            raise
        except BaseException:
            # Also after a timeout: libcurl would keep an HTTP/2 connection that may be dead.
            connection.close()
            raise
        self._keep(connection)
        return message

    def _keep(self, connection: _Connection) -> None:
        self._idle.append(connection)
        if self.closed:
            self.close()

    def close(self) -> None:
        """Close all connections; calls in progress fail."""
        self.closed = True
        while self._idle:
            try:
                self._idle.pop().close()
            except IndexError:
                return  # another thread was faster


class _ErrorStatus(Failure):
    """The server responded with an error status."""


class _Connection:
    """A connection, for one call at a time.

    `perform` of libcurl would wait without letting Python handle signals, so the waiting is done
    here: https://curl.se/libcurl/c/libcurl-multi.html, "the multi_socket API".
    """

    def __init__(self, endpoint: Endpoint, tls: TLS | None) -> None:
        import pycurl

        self._curl = pycurl
        self._body: list[bytes] = []
        self._head: list[bytes] = []
        self._poll = select.poll()
        self._wanted = {
            pycurl.POLL_IN: select.POLLIN,
            pycurl.POLL_OUT: select.POLLOUT,
            pycurl.POLL_INOUT: select.POLLIN | select.POLLOUT,
        }
        self._path = ""
        self._sent_headers: tuple[int, Headers] = (0, ())
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        self._handle = handle = pycurl.Curl()
        self._base = _configure(handle, endpoint, tls)
        handle.setopt(pycurl.WRITEFUNCTION, self._body.append)
        handle.setopt(pycurl.HEADERFUNCTION, self._head.append)

    def send(self, request: GrpcRequest, timeout: float, channel: CurlChannel) -> bytes:
        """Send a request, and return the response message.

        Raises:
            _ErrorStatus: The server responded with an error status.
            Failure: There was no response.
        """
        curl, handle, body = self._curl, self._handle, self._body
        self._head.clear()
        body.clear()
        milliseconds = max(math.ceil(timeout * 1000), 1)
        if request.path != self._path:
            handle.setopt(curl.URL, self._base + request.path)
            self._path = request.path
        # Usually both are the same as for the last call.
        if (milliseconds, request.metadata) != self._sent_headers:
            self._sent_headers = milliseconds, request.metadata
            handle.setopt(curl.TIMEOUT_MS, milliseconds)
            handle.setopt(
                curl.HTTPHEADER,
                [
                    *_HEADERS,
                    f"grpc-timeout: {milliseconds}m",
                    *(f"{name}: {value}" for name, value in request.metadata),
                ],
            )
        handle.setopt(curl.POSTFIELDS, _PREFIX.pack(0, len(request.body)) + request.body)
        self._perform(channel)
        if _SUCCESS not in self._head:
            raise _refusal(self._head)
        reply = body[0] if len(body) == 1 else b"".join(body)
        size = len(reply) - _PREFIX.size
        if size < 0 or reply[: _PREFIX.size] != _PREFIX.pack(0, size):
            raise Failure("INTERNAL", NOT_ONE_MESSAGE)
        return reply[5:]

    def _perform(self, channel: CurlChannel) -> None:
        curl, multi, wait = self._curl, self._multi, self._poll.poll
        multi.add_handle(self._handle)
        _, running = multi.socket_action(curl.SOCKET_TIMEOUT, 0)
        while running:
            due = multi.timeout()  # milliseconds, -1 for never
            ready = wait(_CLOSE_CHECK_MS if due < 0 else min(due, _CLOSE_CHECK_MS))
            if channel.closed:
                raise Failure("UNAVAILABLE", "the client was closed", unreachable=True)
            if not ready:
                _, running = multi.socket_action(curl.SOCKET_TIMEOUT, 0)
            for descriptor, events in ready:
                _, running = multi.socket_action(
                    descriptor,
                    (curl.CSELECT_IN if events & ~select.POLLOUT else 0)
                    | (curl.CSELECT_OUT if events & select.POLLOUT else 0),
                )
        _, _, failed = multi.info_read()
        multi.remove_handle(self._handle)
        if failed:
            raise self._failure(failed[0][1], failed[0][2])

    def _watch(self, what: int, descriptor: int, *_: object) -> None:
        """Watch a socket for libcurl, for reading, writing, both or no longer."""
        wanted = self._wanted.get(what)
        if wanted is None:
            self._poll.unregister(descriptor)
        else:
            self._poll.register(descriptor, wanted)

    def _failure(self, code: int, reason: str) -> Failure:
        curl = self._curl
        if code == curl.E_OPERATION_TIMEDOUT:
            # No connection was established, for which the timeout is shorter than that of the call.
            if not self._handle.getinfo(curl.PRETRANSFER_TIME) and (
                self._handle.getinfo(curl.TOTAL_TIME) * 1000 >= _CONNECT_MS
            ):
                return Failure("UNAVAILABLE", reason, unreachable=True)
            return Failure("DEADLINE_EXCEEDED", "Deadline Exceeded", unreachable=True)
        if code == _HTTP2_STREAM:
            name = code_of_reset(reason)
            return Failure(name, reason, unreachable=name == "UNAVAILABLE")
        return Failure("UNAVAILABLE", reason or f"libcurl error {code}", unreachable=True)

    def close(self) -> None:
        """Close the connection."""
        self._multi.close()
        self._handle.close()


def code_of_reset(reason: str) -> str:
    """The status code, by name, of a stream that the server reset, from libcurl's message."""
    reset = _HTTP2_CODE.search(reason)
    return _BY_HTTP2.get(int(reset[1], 0) if reset else -1, "INTERNAL")


def _configure(handle: Any, endpoint: Endpoint, tls: TLS | None) -> str:
    """Set the options that all calls share; return the base URL."""
    import pycurl

    handle.setopt(pycurl.POST, 1)
    handle.setopt(pycurl.NOSIGNAL, 1)
    handle.setopt(pycurl.PROXY, "")
    handle.setopt(pycurl.TCP_NODELAY, 1)
    handle.setopt(pycurl.TCP_KEEPALIVE, 1)
    handle.setopt(pycurl.TCP_KEEPIDLE, _KEEPALIVE_SECONDS)
    handle.setopt(pycurl.MAXAGE_CONN, _IDLE_SECONDS)
    handle.setopt(pycurl.CONNECTTIMEOUT_MS, _CONNECT_MS)
    handle.setopt(pycurl.DNS_CACHE_TIMEOUT, _DNS_SECONDS)
    handle.setopt(pycurl.BUFFERSIZE, _RECEIVE_BYTES)
    if tls is None:
        handle.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE)
        return f"http://{endpoint.address}"
    import certifi

    handle.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_2_0)
    handle.setopt(pycurl.CAINFO, str(certifi.where() if tls.ca is None else tls.ca))
    if tls.certificate is not None:
        handle.setopt(pycurl.SSLCERT, str(tls.certificate))
        handle.setopt(pycurl.SSLKEY, str(tls.key))
    if tls.server_name is None:
        return f"https://{endpoint.address}"
    name = f"{tls.server_name}:{endpoint.port}"
    handle.setopt(pycurl.CONNECT_TO, [f"{name}:{endpoint.address}"])
    return f"https://{name}"


def _refusal(head: Iterable[bytes]) -> _ErrorStatus:
    """The error in the headers and trailers of an unsuccessful response."""
    http = 0
    fields: dict[str, bytes] = {}
    for line in head:
        if line.startswith(b"HTTP/"):
            # A preceding status was informational.
            http, fields = int(line.split()[1]), {}
            continue
        name, colon, value = line.partition(b":")
        if colon:
            fields[name.strip().lower().decode("ascii", "replace")] = value.strip()
    delay = delay_of(_metadata(fields))
    status = fields.get("grpc-status")
    if status is None:
        if http == 200:
            return _ErrorStatus("UNKNOWN", "the response is not gRPC", retry_after=delay)
        code = _BY_HTTP.get(http, "UNKNOWN")
        return _ErrorStatus(
            code, f"HTTP status {http}", retry_after=delay, unreachable=code == "UNAVAILABLE"
        )
    code = code_by_number(int(status) if status.isdigit() else -1)
    message = unquote_to_bytes(fields.get("grpc-message", b"")).decode(errors="replace")
    return _ErrorStatus(
        code,
        message or "no reason given",
        retry_after=delay,
        unreachable=code in ("UNAVAILABLE", "DEADLINE_EXCEEDED"),
    )


def _metadata(fields: dict[str, bytes]) -> Iterable[tuple[str, str | bytes]]:
    """The headers as gRPC metadata: a name that ends in -bin has a binary value."""
    for name, value in fields.items():
        if name.endswith("-bin"):
            try:
                yield name, base64.b64decode(value + b"=" * (-len(value) % 4))
            except binascii.Error:
                continue
        else:
            yield name, value.decode("ascii", "replace")
