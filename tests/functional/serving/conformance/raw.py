"""Bytes on a connection to a server, and the responses that come back on it."""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import socket
import time
from typing import Any

_KEPT = ("content-type", "content-encoding", "connection", "transfer-encoding", "allow", "location")
# Less than the time after which the server closes a connection that is kept alive.
_HANG = 40.0
_STAYS_OPEN = 0.3


def exchange(port: int, call: dict[str, Any], expected: dict[str, Any] | None) -> dict[str, Any]:
    """Send what a step holds, and read as many responses as it expects.

    Args:
        port: The server's, at 127.0.0.1.
        call: `send` holds text, bytes ({"b64": ...}) and pauses in seconds; `shut` ends it.
        expected: What was recorded; None to read until the server closes the connection.
    """
    with socket.create_connection(("127.0.0.1", port), _HANG) as connection:
        for part in call["send"]:
            if isinstance(part, (int, float)):
                time.sleep(part)
            else:
                data = base64.b64decode(part["b64"]) if isinstance(part, dict) else None
                connection.sendall(part.encode("latin-1") if data is None else data)
        if call.get("shut"):
            connection.shutdown(socket.SHUT_WR)
        received, stays_open = b"", False
        if expected is not None:
            stays_open = expected["then"] == "open"
        while True:
            if stays_open and expected and len(responses(received)) >= len(expected["responses"]):
                connection.settimeout(_STAYS_OPEN)
            try:
                data = connection.recv(1 << 16)
            except TimeoutError:
                return {"responses": responses(received), "then": "open"}
            except ConnectionResetError:
                return {"responses": responses(received), "then": "reset"}
            if not data:
                return {"responses": responses(received), "then": "closed"}
            received += data


def responses(data: bytes) -> list[dict[str, Any]]:
    """The responses in a stream that are there as a whole."""
    found: list[dict[str, Any]] = []
    while b"\r\n\r\n" in data:
        head, _, rest = data.partition(b"\r\n\r\n")
        line, *fields = head.decode("latin-1").split("\r\n")
        headers = {
            name.strip().lower(): value.strip()
            for name, _, value in (field.partition(":") for field in fields)
        }
        status = " ".join(line.split(" ")[:2])
        if status.endswith(" 100"):
            found.append({"status": status})
            data = rest
            continue
        size = int(headers.get("content-length", len(rest)))
        if len(rest) < size:
            break
        body, data = rest[:size], rest[size:]
        if headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        text: Any = body.decode("utf-8", "replace")
        with contextlib.suppress(ValueError):
            text = json.loads(text)
        found.append(
            {
                "status": status,
                "headers": {name: headers[name] for name in _KEPT if name in headers},
                "length": "content-length" in headers,
                "body": text if isinstance(text, (dict, list)) else str(text)[:300],
            }
        )
    return found
