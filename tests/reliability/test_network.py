"""Connections that are slow, silent, half-closed and reset, between callers and the server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.reliability.proxy import Fault, faulty_proxies

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import RunningServer
    from tests.reliability.conftest import Begin
    from tests.reliability.proxy import FaultyProxy


@pytest.fixture
def proxies(server: RunningServer) -> Iterator[list[FaultyProxy]]:
    """One for gRPC, and one for REST."""
    with faulty_proxies(server.port, server.rest_port) as proxies:
        yield proxies


@pytest.mark.parametrize("fault", [fault for fault in Fault if fault is not Fault.NONE])
def test_connections_that_break(
    trial: Begin, server: RunningServer, proxies: list[FaultyProxy], fault: Fault
) -> None:
    grpc, http = proxies
    addresses = {
        "grpc": f"grpc://127.0.0.1:{grpc.port}", "http": f"http://127.0.0.1:{http.port}"
    }  # fmt: skip
    name = f"network: {fault.name.lower().replace('_', ' ')}"
    spared = fault is Fault.SLOW
    with trial(name, server, addresses=addresses, spared=spared) as found:
        for _ in range(found.rounds):
            with found.injected():
                for proxy in proxies:
                    proxy.fault = fault
                if spared:
                    found.until_answered()
                else:
                    found.until_failed()
                for proxy in proxies:
                    proxy.fault = Fault.NONE
        assert all(proxy.broken for proxy in proxies)
