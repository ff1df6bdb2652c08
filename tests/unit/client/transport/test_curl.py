"""What a failure of libcurl means."""

from __future__ import annotations

from typing import Any

import pytest

from servable_client.transport.curl import CurlChannel
from servable_client.transport.curl_grpc import code_of_reset


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("HTTP/2 stream 69 reset by server (error 0x2 INTERNAL_ERROR)", "UNAVAILABLE"),
        ("HTTP/2 stream 1 reset by server (error 0x7 REFUSED_STREAM)", "UNAVAILABLE"),
        ("HTTP/2 stream 5 reset by server (error 0xb ENHANCE_YOUR_CALM)", "RESOURCE_EXHAUSTED"),
        ("HTTP/2 stream 5 was not closed cleanly: INTERNAL_ERROR (err 2)", "UNAVAILABLE"),
        ("HTTP/2 stream 5 was not closed cleanly: CANCEL (err 8)", "CANCELLED"),
        ("HTTP/2 stream 5 was not closed cleanly: PROTOCOL_ERROR (err 1)", "INTERNAL"),
        ("HTTP/2 stream 5 was not closed cleanly before end of the underlying stream", "INTERNAL"),
        ("", "INTERNAL"),
    ],
)
def test_a_stream_that_was_reset_has_the_code_of_its_reason(reason: str, code: str) -> None:
    assert code_of_reset(reason) == code


class FakeConnection:
    """A connection, without its library."""

    def __init__(self) -> None:
        self.used = 0.0
        self.closed = False

    def close(self) -> None:
        self.closed = True


def test_connections_that_were_idle_before_a_call_that_failed_are_dropped() -> None:
    channel = CurlChannel[Any, Any](FakeConnection)  # type: ignore[arg-type]
    idle: list[Any] = [FakeConnection() for _ in range(4)]
    for used, connection in enumerate(idle):
        connection.used = used
        channel._idle.append(connection)
    channel._drop_unused_since(1.0)
    assert [connection.closed for connection in idle] == [True, True, False, False]
    assert channel._idle == idle[2:]
