"""Unary gRPC calls as HTTP/2 requests of libcurl.

https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
"""

from __future__ import annotations

import base64
import binascii
import re
import struct
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from servable_client.codec.grpc import (
    NOT_ONE_MESSAGE,
    GrpcRequest,
    code_by_number,
    delay_of,
    refuses_retry,
    request_id_of,
)
from servable_client.transport.curl_exchange import ErrorStatus, Exchange
from servable_client.types.operations import Failure

if TYPE_CHECKING:
    from collections.abc import Iterable

    from servable_client.net.endpoints import Endpoint
    from servable_client.net.security import TLS

_HEADERS = (
    "user-agent: servable-client", "content-type: application/grpc", "te: trailers",
    # Disable these two, which libcurl would send by default.
    "accept:", "expect:",
)  # fmt: skip
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


class GrpcExchange(Exchange[GrpcRequest, bytes]):
    """A handle for gRPC."""

    def __init__(self, endpoint: Endpoint, tls: TLS | None) -> None:
        import pycurl

        super().__init__(
            endpoint,
            tls,
            pycurl.CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE
            if tls is None
            else pycurl.CURL_HTTP_VERSION_2_0,
            [pycurl.E_HTTP2],
        )
        self.handle.setopt(pycurl.POST, 1)

    def prepare(self, request: GrpcRequest, timeout: float) -> None:
        """Set the options of the handle for a request, and its timeout in seconds."""
        milliseconds = self._begin(request.path, timeout, request.metadata)
        if milliseconds is not None:
            self.handle.setopt(
                self._curl.HTTPHEADER,
                [
                    *_HEADERS,
                    f"grpc-timeout: {milliseconds}m",
                    *(f"{name}: {value}" for name, value in request.metadata),
                ],
            )
        self.handle.setopt(self._curl.POSTFIELDS, _PREFIX.pack(0, len(request.body)) + request.body)

    def reply(self) -> bytes:
        """The message of a response that is complete.

        Raises:
            ErrorStatus: It has an error status.
            Failure: It is not one message.
        """
        if _SUCCESS not in self._head:
            raise _refusal(self._head)
        reply = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        size = len(reply) - _PREFIX.size
        if size < 0 or reply[: _PREFIX.size] != _PREFIX.pack(0, size):
            raise Failure("INTERNAL", NOT_ONE_MESSAGE)
        return reply[5:]

    def failure(self, code: int, reason: str) -> Failure:
        """The failure of a call without a response, by libcurl's error code and message."""
        if code == _HTTP2_STREAM:
            name = code_of_reset(reason)
            return Failure(name, reason, unreachable=name == "UNAVAILABLE")
        return super().failure(code, reason)


def code_of_reset(reason: str) -> str:
    """The status code, by name, of a stream that the server reset, from libcurl's message."""
    reset = _HTTP2_CODE.search(reason)
    return _BY_HTTP2.get(int(reset[1], 0) if reset else -1, "INTERNAL")


def _refusal(head: Iterable[bytes]) -> ErrorStatus:
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
    metadata = [*_metadata(fields)]
    delay, request_id = delay_of(metadata), request_id_of(metadata)
    status = fields.get("grpc-status")
    if status is None:
        if http == 200:
            return ErrorStatus("UNKNOWN", "the response is not gRPC", retry_after=delay)
        code = _BY_HTTP.get(http, "UNKNOWN")
        return ErrorStatus(
            code,
            f"HTTP status {http}",
            retry_after=delay,
            unreachable=code == "UNAVAILABLE",
            request_id=request_id,
        )
    code = code_by_number(int(status) if status.isdigit() else -1)
    message = unquote_to_bytes(fields.get("grpc-message", b"")).decode(errors="replace")
    return ErrorStatus(
        code,
        message or "no reason given",
        retry_after=delay,
        refuses_retry=refuses_retry(metadata),
        unreachable=code in ("UNAVAILABLE", "DEADLINE_EXCEEDED"),
        request_id=request_id,
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
