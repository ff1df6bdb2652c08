"""HTTP/1.1 requests of libcurl, for REST."""

from __future__ import annotations

from typing import TYPE_CHECKING

from servable_client.codec.http import HttpReply, HttpRequest
from servable_client.transport.curl_exchange import Exchange

if TYPE_CHECKING:
    from servable_client.net.endpoints import Endpoint
    from servable_client.net.security import TLS

# What is not HTTP/1 is taken for HTTP/0.9, which is not allowed; or it is weird, for which pycurl
# has no name: https://curl.se/libcurl/c/libcurl-errors.html
_WEIRD_SERVER_REPLY = 8
# Disable those that libcurl would send by default.
_HEADERS = ("user-agent: servable-client", "accept:", "expect:")


class HttpExchange(Exchange[HttpRequest, HttpReply]):
    """A handle for REST."""

    def __init__(self, endpoint: Endpoint, tls: TLS | None) -> None:
        import pycurl

        super().__init__(
            endpoint,
            tls,
            pycurl.CURL_HTTP_VERSION_1_1,
            [pycurl.E_UNSUPPORTED_PROTOCOL, _WEIRD_SERVER_REPLY],
        )

    def prepare(self, request: HttpRequest, timeout: float) -> None:
        """Set the options of the handle for a request, and its timeout in seconds."""
        curl, handle = self._curl, self.handle
        if self._begin(request.path, timeout, request.headers) is not None:
            fields = [f"{name.decode()}: {value.decode()}" for name, value in request.headers]
            handle.setopt(curl.HTTPHEADER, [*_HEADERS, *fields])
        if request.body is None:
            handle.setopt(curl.HTTPGET, 1)
        else:
            handle.setopt(curl.POST, 1)
            handle.setopt(curl.POSTFIELDS, request.body)

    def reply(self) -> HttpReply:
        """The response, which is complete."""
        fields: list[tuple[bytes, bytes]] = []
        for line in self._head:
            name, colon, value = line.partition(b":")
            if line.startswith(b"HTTP/"):
                fields = []  # a preceding status was informational
            elif colon:
                fields.append((name.strip(), value.strip()))
        status = self.handle.getinfo(self._curl.RESPONSE_CODE)
        return HttpReply(status, fields, self._received())
