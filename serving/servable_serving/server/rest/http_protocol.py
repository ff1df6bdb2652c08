"""uvicorn's HTTP/1.1, which changes to no other protocol."""

from __future__ import annotations

import re

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_UPGRADE = re.compile(rb"\r\nupgrade(?=[ \t]*:)", re.IGNORECASE)


class HttpProtocol(HttpToolsProtocol):
    """HTTP/1.1 that passes over a wish for another protocol, as RFC 9110, 7.8, allows.

    httptools ends a request behind the headers where they have such a wish, and so loses the
    body: that of each first POST of Java's HttpClient, which asks for HTTP/2 unless told not to.
    """

    def data_received(self, data: bytes) -> None:
        """Take what came."""
        if not getattr(self.cycle, "more_body", False):
            # What comes begins with headers, or with some of them.
            end = data.find(b"\r\n\r\n")
            head = data if end < 0 else data[:end]
            if _UPGRADE.search(head):
                data = _UPGRADE.sub(b"\r\nx-upgrade", head) + data[len(head) :]
        super().data_received(data)
