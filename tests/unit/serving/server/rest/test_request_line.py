"""The status for a request line that cannot be parsed."""

from __future__ import annotations

import pytest

from servable_serving.server.rest.app import status_of_invalid


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"hello", 400),
        (b"", 400),
        (b"GET /v1/models/a b HTTP/1.1", 400),
        (b"GET /\xfc HTTP/1.1", 400),
        (b"GET /% HTTP/1.1", 400),
        (b"FOO / HTTP/2.0", 400),
        (b"FOO /", 400),
        (b"FOO / HTTP/1.1", 501),
        (b"get /v1/models/a HTTP/1.0", 501),
        (b"GET v1/models/a HTTP/1.1", 404),
        (b"GET / HTTP/1.1", 400),  # what follows it is not valid
    ],
)
def test_status(line: bytes, status: int) -> None:
    assert status_of_invalid(line) == status
