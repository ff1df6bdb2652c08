"""HTTP on the REST port beyond what the recordings show: bytes in pieces, connections that stay."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tests.conftest import serving
from tests.functional.serving.conformance.raw import exchange

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import RunningServer

BODY = '{"instances": [[1, 2, 5]]}'
ANSWER = {"predictions": [[6.0, 11.0, 26.0]]}


@pytest.fixture(scope="module")
def server(fixtures: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server of the linear model."""
    log = tmp_path_factory.mktemp("http") / "log"
    with serving(fixtures / "linear", log, model="linear") as running:
        yield running


def ask(server: RunningServer, *send: Any, count: int = 1, then: str = "closed") -> list[Any]:
    """The responses to some bytes, after which the connection is as expected."""
    expected = {"responses": [None] * count, "then": then}
    seen = exchange(server.rest_port, {"send": send}, expected)
    assert seen["then"] == then, seen
    assert len(seen["responses"]) == count, seen
    return list(seen["responses"])


def post(version: str, *headers: str, target: str = "/v1/models/linear:predict") -> str:
    head = [f"POST {target} HTTP/{version}", "Host: x", f"Content-Length: {len(BODY)}", *headers]
    return "\r\n".join(head) + f"\r\n\r\n{BODY}"


@pytest.mark.parametrize("name", ["keep-alive", "Keep-Alive"])
def test_http_1_0_stays_open_if_asked(server: RunningServer, name: str) -> None:
    first = post("1.0", f"Connection: {name}")
    found = ask(server, first + post("1.0"), count=2)
    assert [one["status"] for one in found] == ["HTTP/1.0 200"] * 2
    assert [one["headers"].get("connection") for one in found] == ["keep-alive", None]
    assert [one["length"] for one in found] == [True, False]
    assert [one["body"] for one in found] == [ANSWER] * 2


def test_http_1_0_in_pieces(server: RunningServer) -> None:
    (found,) = ask(server, *post("1.0"))
    assert found["body"] == ANSWER


def test_a_large_answer_to_http_1_0_is_whole(server: RunningServer) -> None:
    rows = ", ".join(["[1, 2, 5]"] * 20_000)
    body = f'{{"instances": [{rows}]}}'
    head = f"POST /v1/models/linear:predict HTTP/1.0\r\nContent-Length: {len(body)}\r\n\r\n"
    (found,) = ask(server, head + body)
    assert len(found["body"]["predictions"]) == 20_000


@pytest.mark.parametrize("version", ["1.2", "1.9"])
def test_minor_versions_are_compatible(server: RunningServer, version: str) -> None:
    (found,) = ask(server, post(version), then="open")
    assert found["status"] == f"HTTP/{version} 200"


@pytest.mark.parametrize("version", ["0.9", "2.0", "2.1", "3.0", "9.9"])
def test_other_versions_are_refused(server: RunningServer, version: str) -> None:
    (found,) = ask(server, post(version))
    assert found["status"] == "HTTP/1.1 400"
    assert found["headers"]["content-type"] == "text/html"


def test_an_error_of_the_server_itself_closes_the_connection(server: RunningServer) -> None:
    for method, status in (("GET", 404), ("TRACE", 501)):
        (found,) = ask(server, f"{method} /nosuch HTTP/1.1\r\nHost: x\r\n\r\n")
        assert found["status"] == f"HTTP/1.1 {status}"
        assert found["headers"]["connection"] == "close"


def test_an_error_of_the_api_does_not(server: RunningServer) -> None:
    (found,) = ask(server, "GET /v1/models/nosuch HTTP/1.1\r\nHost: x\r\n\r\n", then="open")
    assert found["status"] == "HTTP/1.1 404"


def test_head_has_no_body_for_the_next_request_to_begin_with(server: RunningServer) -> None:
    head = "HEAD /v1/models/linear HTTP/1.1\r\nHost: x\r\n\r\n"
    data = (head + post("1.1", "Connection: close")).encode()
    seen = exchange(server.rest_port, {"send": [data.decode()]}, None)
    # Without a length the first response ends where its head does.
    (only,) = seen["responses"]
    assert only["body"].startswith("HTTP/1.1 200")


@pytest.mark.parametrize(
    ("header", "then"), [("Proxy-Connection: keep-alive", "open"), ("X-A: b", "closed")]
)
def test_a_request_to_a_proxy(server: RunningServer, header: str, then: str) -> None:
    target = "http://host:1/v1/models/linear:predict"
    (found,) = ask(server, post("1.1", header, target=target), then=then)
    assert found["body"] == ANSWER
    assert "connection" not in found["headers"]


@pytest.mark.parametrize("end", ["?", "?a=b", "#", "#x", "?a#b"])
def test_a_query_or_fragment_belongs_to_the_name(server: RunningServer, end: str) -> None:
    (found,) = ask(server, f"GET /v1/models/linear{end} HTTP/1.1\r\nConnection: close\r\n\r\n")
    assert found["status"] == "HTTP/1.1 404"
    assert f"linear{end}" in found["body"]["error"]


@pytest.mark.parametrize(("expect", "status"), [("tea", 417), ("", 417), ("100-Continue", 200)])
def test_expectations(server: RunningServer, expect: str, status: int) -> None:
    send = post("1.1", f"Expect: {expect}", "Connection: close")
    found = exchange(server.rest_port, {"send": [send]}, None)["responses"]
    assert found[-1]["status"] == f"HTTP/1.1 {status}"


def test_an_expectation_without_a_body_is_ignored(server: RunningServer) -> None:
    send = "GET /v1/models/linear HTTP/1.1\r\nExpect: tea\r\nConnection: close\r\n\r\n"
    (found,) = ask(server, send)
    assert found["status"] == "HTTP/1.1 200"


@pytest.mark.parametrize("chunk", ["zz\r\n", "-1\r\n{", "5\r\n{}\r\n", "g"])
def test_a_chunk_that_is_not_valid(server: RunningServer, chunk: str) -> None:
    head = "POST /v1/models/linear:predict HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    (found,) = ask(server, head, chunk + "0\r\n\r\n\r\n")
    assert found["status"] == "HTTP/1.1 413"
