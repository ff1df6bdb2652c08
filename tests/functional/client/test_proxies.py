"""Servers that are reached through a proxy, and those that are not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tests.conftest import NAME
from tests.functional.client.gateways import ForwardProxy
from tests.functional.client.test_security import credentials

import servable_client as sdk
from servable_client import TLS, Client, Retry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    from tests.conftest import RunningServer
    from tests.functional.client.conftest import Certificates

VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "grpc_proxy", "no_grpc_proxy")


@pytest.fixture(autouse=True)
def _nobody_elses(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def proxy() -> Iterator[ForwardProxy]:
    found = ForwardProxy()
    yield found
    found.close()


@pytest.mark.parametrize("secure", ["", "s"], ids=["plain", "tls"])
def test_a_host_name_that_only_the_proxy_resolves(
    make: Callable[..., Any],
    gateway: Callable[..., Any],
    certificates: Certificates,
    scheme: str,
    secure: str,
    boot: np.ndarray,
) -> None:
    scheme += secure
    options = {"credentials": credentials(scheme, certificates)} if secure else {}
    front = gateway(scheme, lambda *_: None, **options)
    place = "models.example:" + front.address.rpartition(":")[2]
    tls = TLS(ca=certificates.ca) if secure else None
    proxy = ForwardProxy("me:p@ss")
    try:
        address = f"http://me:p%40ss@{proxy.address}"
        with make(f"{scheme}://{place}", model=NAME, tls=tls, proxy=address) as client:
            assert client.classify(boot).label == "Ankle boot"
            assert "p@ss" not in repr(vars(client))
        assert {where for _, where in proxy.seen} == {place}
        verbs = {verb for verb, _ in proxy.seen}
        assert verbs == ({"GET", "POST"} if scheme == "http" else {"CONNECT"})
    finally:
        proxy.close()


def test_the_proxy_of_the_environment(
    make: Callable[..., Any],
    server: RunningServer,
    scheme: str,
    proxy: ForwardProxy,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("http_proxy", f"http://{proxy.address}")

    def ask(**options: Any) -> bool:
        """Whether the request goes through the proxy."""
        proxy.seen.clear()
        # An address of this machine that does not count as loopback.
        address = server.address(scheme).replace("127.0.0.1", "0.0.0.0")
        with make(address, model=NAME, **options) as client:
            assert client.status()[0].version == 1
        return bool(proxy.seen)

    assert ask()
    assert not ask(trust_env=False)
    assert ask(trust_env=False, proxy=proxy.address)
    monkeypatch.setenv("no_proxy", "elsewhere.example,0.0.0.0")
    assert not ask()
    with make(server.address(scheme), model=NAME, proxy=f"http://{proxy.address}") as client:
        proxy.seen.clear()
        assert client.ready()
        assert not proxy.seen  # a server on this machine is reached directly


def test_a_proxy_for_all_schemes(
    server: RunningServer, proxy: ForwardProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy.address)
    with Client(server.http.replace("127.0.0.1", "0.0.0.0"), model=NAME) as client:
        assert client.ready()
    assert proxy.seen


def test_a_proxy_that_refuses(make: Callable[..., Any], certificates: Certificates) -> None:
    proxy = ForwardProxy("me:secret")
    try:
        with (
            make(
                "https://models.example",
                model=NAME,
                tls=TLS(ca=certificates.ca),
                proxy=f"http://me:wrong@{proxy.address}",
                retry=Retry(attempts=1),
            ) as client,
            pytest.raises(sdk.ConnectionFailed, match="the proxy refused: 407") as caught,
        ):
            client.status()
        assert "wrong" not in str(caught.value)
    finally:
        proxy.close()
