"""Which proxy, if any, stands between this machine and a server."""

from __future__ import annotations

import pytest

from servable_client import InvalidInput
from servable_client.net.endpoints import parse_servers
from servable_client.net.proxies import Proxy, proxy_for

VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "grpc_proxy", "no_grpc_proxy")


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def found(server: str, given: str | None = None, *, trust_env: bool = True) -> Proxy | None:
    (endpoint,) = parse_servers(server)
    return proxy_for(endpoint, given, trust_env=trust_env)


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("http://p:3128", "http://p:3128"),
        ("p:3128", "http://p:3128"),
        ("http://p", "http://p:80"),
        ("https://p", "https://p:443"),
        ("http://[2001:db8::1]:3128", "http://[2001:db8::1]:3128"),
    ],
)
def test_a_proxy_that_is_given(given: str, url: str) -> None:
    proxy = found("http://h", given)
    assert proxy is not None
    assert proxy.url == url
    assert proxy.user is None
    assert proxy.full == url


def test_user_and_password_are_decoded_and_encoded_again() -> None:
    proxy = found("http://h", "http://me:p%40ss@p:3128")
    assert proxy is not None
    assert (proxy.user, proxy.password) == ("me", "p@ss")
    assert proxy.full == "http://me:p%40ss@p:3128"


def test_a_password_is_not_shown() -> None:
    assert "p@ss" not in repr(found("http://h", "http://me:p%40ss@p:3128"))


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_this_machine_is_never_behind_a_proxy(host: str) -> None:
    assert found(f"http://{host}", "http://p") is None


def test_grpc_takes_a_proxy_that_is_given() -> None:
    proxy = found("grpc://h", "http://p:3128")
    assert proxy is not None
    assert proxy.url == "http://p:3128"


@pytest.mark.parametrize(
    ("server", "given"),
    [
        ("http://h", "socks5://u:secret@p:1080"),
        ("http://h", "http://u:secret@p:port"),
        ("http://h", "http://p/secret"),
        ("http://h", "http://p:0"),
        ("http://h", "http://"),
        ("grpc://h", "https://u:secret@p"),
    ],
)
def test_an_invalid_proxy_is_refused_without_its_password(server: str, given: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        found(server, given)
    assert "secret" not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize(
    ("server", "variable"),
    [
        ("http://h", "http_proxy"),
        ("http://h", "HTTP_PROXY"),
        ("https://h", "HTTPS_PROXY"),
        ("https://h", "ALL_PROXY"),
    ],
)
def test_the_environment_names_a_proxy_for_rest(
    server: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "http://p:3128")
    proxy = found(server)
    assert proxy is not None
    assert proxy.url == "http://p:3128"


def test_another_schemes_variable_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://p:3128")
    assert found("http://h") is None


def test_the_environment_is_ignored_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://p:3128")
    assert found("http://h", trust_env=False) is None


def test_grpc_leaves_the_environment_to_grpcio(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://p:3128")
    assert found("grpc://h") is None


@pytest.mark.parametrize("exceptions", ["h", "elsewhere.example,h", "*"])
def test_no_proxy_names_exceptions(exceptions: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://p:3128")
    monkeypatch.setenv("no_proxy", exceptions)
    assert found("http://h") is None


def test_a_proxy_that_is_given_goes_before_the_environments(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("http_proxy", "http://other:1")
    proxy = found("http://h", "http://p:3128")
    assert proxy is not None
    assert proxy.url == "http://p:3128"


@pytest.mark.parametrize(("variable"), ["http_proxy", "all_proxy"])
def test_an_invalid_variable_is_named(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "socks5://u:secret@p")
    with pytest.raises(InvalidInput) as caught:
        found("http://h")
    assert variable in caught.value.message
    assert "secret" not in caught.value.message
