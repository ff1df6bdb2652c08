"""Server addresses, and which endpoint is next."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.client.harness import Clock

from servable_client import InvalidInput
from servable_client.net.endpoints import Balancer, parse_servers


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("grpc://h", "grpc://h:8500"),
        ("grpcs://h", "grpcs://h:8500"),
        ("http://h", "http://h:8501"),
        ("https://h/", "https://h:8501"),
        ("http://h:80", "http://h:80"),
        ("GRPC://Host:1", "grpc://host:1"),
        ("grpc://[2001:db8::1]", "grpc://[2001:db8::1]:8500"),
        (" grpc://h ", "grpc://h:8500"),
    ],
)
def test_an_address_gets_its_default_port(address: str, url: str) -> None:
    (endpoint,) = parse_servers(address)
    assert endpoint.url == url


@pytest.mark.parametrize("servers", ["grpc://a,grpc://b", ["grpc://a", "grpc://b"]])
def test_several_addresses(servers: Any) -> None:
    assert [e.url for e in parse_servers(servers)] == ["grpc://a:8500", "grpc://b:8500"]


def test_an_address_given_twice_is_one_endpoint() -> None:
    assert len(parse_servers("grpc://a,grpc://a:8500")) == 1


@pytest.mark.parametrize(
    "servers",
    [
        "",
        [],
        "h",
        "h:8500",
        "ftp://h",
        "grpc://",
        "grpc://h:0",
        "grpc://h:70000",
        "grpc://h:port",
        "http://h/v1/models",
        "http://h?a=b",
        "http://h#a",
        "grpc://a,,grpc://b",
    ],
    ids=repr,
)
def test_an_invalid_address_is_refused(servers: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_servers(servers)
    assert caught.value.hint


@pytest.mark.parametrize("address", ["http://me:s3cr3t@h", "http://me:s3cr3t@h:port"])
def test_a_password_in_an_address_is_not_repeated(address: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_servers(address)
    assert "s3cr3t" not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize(
    ("scheme", "grpc", "secure"),
    [
        ("grpc", True, False),
        ("grpcs", True, True),
        ("http", False, False),
        ("https", False, True),
    ],
)
def test_the_scheme_says_protocol_and_tls(scheme: str, grpc: bool, secure: bool) -> None:
    (endpoint,) = parse_servers(f"{scheme}://h")
    assert (endpoint.grpc, endpoint.secure) == (grpc, secure)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True),
        ("a.localhost", True),
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("[::1]", True),
        ("0.0.0.0", False),
        ("10.0.0.7", False),
        ("models.example", False),
        ("localhost.example", False),
    ],
)
def test_which_hosts_are_this_machine(host: str, loopback: bool) -> None:
    (endpoint,) = parse_servers(f"grpc://{host}")
    assert endpoint.loopback is loopback


# -- the balancer -------------------------------------------------------------------------------


def balancer(count: int = 3) -> tuple[Balancer, Clock]:
    clock = Clock()
    endpoints = parse_servers([f"grpc://server{i}" for i in range(count)])
    return Balancer(endpoints, now=clock), clock


def test_endpoints_take_turns() -> None:
    found, _ = balancer()
    assert [found.pick() for _ in range(6)] == [*found.endpoints, *found.endpoints]


def test_an_endpoint_that_was_tried_is_passed_over() -> None:
    found, _ = balancer()
    a, b, c = found.endpoints
    assert found.pick(tried=[a, b]) is c


def test_a_failed_endpoint_is_left_out() -> None:
    found, _ = balancer()
    a, b, c = found.endpoints
    found.failed(b)
    assert {found.pick() for _ in range(6)} == {a, c}


def test_a_failed_endpoint_is_better_than_one_that_was_tried() -> None:
    found, _ = balancer()
    a, b, c = found.endpoints
    found.failed(b)
    assert found.pick(tried=[a, c]) is b


def test_of_failed_endpoints_the_first_to_return_is_picked() -> None:
    found, clock = balancer(2)
    a, b = found.endpoints
    found.failed(b)
    clock.advance(0.1)
    found.failed(a)
    assert {found.pick() for _ in range(4)} == {b}


def test_a_failed_endpoint_returns_after_half_a_second() -> None:
    found, clock = balancer()
    found.failed(found.endpoints[0])
    clock.advance(0.51)
    assert {found.pick() for _ in range(3)} == set(found.endpoints)


@pytest.mark.parametrize(
    ("failures", "rest"), [(1, 0.5), (2, 1), (3, 2), (5, 8), (9, 15), (99, 15)]
)
def test_each_failure_in_a_row_doubles_the_rest(failures: int, rest: float) -> None:
    found, clock = balancer(2)
    first, second = found.endpoints
    for _ in range(failures):
        clock.advance(100)
        found.failed(first)
    clock.advance(rest - 0.01)
    assert {found.pick() for _ in range(4)} == {second}
    clock.advance(0.02)
    assert {found.pick() for _ in range(4)} == {first, second}


def test_failures_of_calls_in_progress_count_once() -> None:
    found, clock = balancer(2)
    first, _ = found.endpoints
    assert [found.failed(first) for _ in range(3)] == [True, False, False]
    clock.advance(0.51)
    assert first in {found.pick() for _ in range(2)}


def test_only_the_first_failure_in_a_row_is_news() -> None:
    found, clock = balancer(2)
    first, _ = found.endpoints
    assert found.failed(first)
    clock.advance(1)
    assert not found.failed(first)


def test_an_answer_ends_the_rest() -> None:
    found, _ = balancer(2)
    first, _ = found.endpoints
    found.failed(first)
    found.answered(first)
    assert first in {found.pick() for _ in range(2)}
    assert found.failed(first)


def test_the_only_endpoint_is_always_picked() -> None:
    found, _ = balancer(1)
    (only,) = found.endpoints
    found.failed(only)
    assert found.pick(tried=[only]) is only


def test_whether_an_endpoint_is_left() -> None:
    found, _ = balancer(2)
    first, second = found.endpoints
    assert found.has_untried([first])
    assert not found.has_untried([first, second])
