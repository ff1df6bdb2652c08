"""The servers behind an address."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.unit.serving.release.fakes import FakeClient

from servable_client import ConnectionFailed, InvalidInput, ModelNotFound, VersionStatus
from servable_serving.release.replicas import Replicas, addresses_of

PLACES = {"pods.example": ["10.0.0.1", "10.0.0.2"], "gateway.example": ["10.0.0.9"]}


@dataclass
class Network:
    """Gateways by their address, and how many servers are behind each."""

    gateways: dict[str, int] = field(default_factory=dict)
    down: set[str] = field(default_factory=set)
    made: list[Asked] = field(default_factory=list)

    def connect(self, address: str, *, name: str | None = None, number: int | None = None) -> Asked:
        client = Asked(network=self, address=address, name=name, number=number)
        self.made.append(client)
        return client

    def replicas(self, address: str) -> Replicas:
        return Replicas(address, connect=self.connect, lookup=lambda host, _: PLACES.get(host, []))


@dataclass
class Asked(FakeClient):
    """One server of a `Network`, or a gateway that passes requests to one."""

    network: Network = field(default_factory=Network)
    address: str = ""
    name: str | None = None
    number: int | None = None

    def status(self) -> list[VersionStatus]:
        behind = self.network.gateways.get(self.address)
        if self.address in self.network.down:
            raise ConnectionFailed("it is down", code="UNAVAILABLE")
        if behind is not None and self.number is not None and not 0 < self.number <= behind:
            raise InvalidInput("no such server", code="OUT_OF_RANGE")
        raise ModelNotFound("no such model", code="NOT_FOUND")


def found(replicas: Replicas) -> list[tuple[str, str | None, int | None]]:
    clients: list[Any] = replicas.find()
    return [(client.address, client.name, client.number) for client in clients]


def test_a_server_is_itself() -> None:
    replicas = Network().replicas("grpc://127.0.0.1:1,http://other.example:2")
    assert found(replicas) == [
        ("grpc://127.0.0.1:1", None, None), ("http://other.example:2", None, None),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("scheme", "name"), [("grpc", None), ("http", None), ("grpcs", "pods.example"),
                         ("https", "pods.example")]
)  # fmt: skip
def test_a_name_stands_for_several(scheme: str, name: str | None) -> None:
    assert found(Network().replicas(f"{scheme}://pods.example:7")) == [
        (f"{scheme}://10.0.0.1:7", name, None), (f"{scheme}://10.0.0.2:7", name, None),
    ]  # fmt: skip


def test_a_name_stays_where_its_addresses_cannot_be_used() -> None:
    def connect(address: str, *, name: str | None = None, number: int | None = None) -> Asked:
        if name is not None:
            raise InvalidInput("TLS(server_name=...) is not supported through a proxy")
        return Asked(network=Network(), address=address, name=name, number=number)

    replicas = Replicas(
        "https://pods.example:7", connect=connect, lookup=lambda host, _: PLACES[host]
    )
    assert found(replicas) == [("https://pods.example:7", None, None)]


def test_the_addresses_of_names(monkeypatch: pytest.MonkeyPatch) -> None:
    known: dict[tuple[str, int], list[str]] = {
        ("both", socket.AF_INET): ["10.0.0.2", "10.0.0.1", "10.0.0.2"],
        ("both", socket.AF_INET6): ["fd00::1"],
        ("new", socket.AF_INET6): ["fd00::2", "fd00::1"],
    }

    def getaddrinfo(host: str, port: int, family: int, kind: int) -> list[Any]:
        if (host, family) not in known:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(family, kind, 6, "", (one, port)) for one in known[host, family]]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    assert addresses_of("both", 1) == ["10.0.0.1", "10.0.0.2"]
    assert addresses_of("new", 1) == ["fd00::1", "fd00::2"]
    assert addresses_of("none", 1) == []


def test_addresses_of_ipv6_are_in_brackets() -> None:
    network = Network()
    replicas = Replicas(
        "grpc://pods.example:7", connect=network.connect, lookup=lambda *_: ["fd00::1", "fd00::2"]
    )
    assert [address for address, *_ in found(replicas)] == [
        "grpc://[fd00::1]:7", "grpc://[fd00::2]:7",
    ]  # fmt: skip


def test_servers_behind_a_gateway_come_and_go() -> None:
    address = "grpcs://gateway.example:8443"
    network = Network({address: 3})
    replicas = network.replicas(address)
    assert found(replicas) == [(address, None, number) for number in (1, 2, 3)]
    network.gateways[address] = 1
    assert found(replicas) == [(address, None, 1)]
    network.gateways[address] = 2
    assert found(replicas) == [(address, None, number) for number in (1, 2)]


def test_a_gateway_without_servers_says_so_itself() -> None:
    address = "grpc://gateway.example:8500"
    assert found(Network({address: 0}).replicas(address)) == [(address, None, None)]


def test_a_gateway_that_starts_later_is_found() -> None:
    address = "grpc://gateway.example:8500"
    network = Network({address: 2}, down={address})
    replicas = network.replicas(address)
    assert found(replicas) == [(address, None, None)]
    network.down.clear()
    assert found(replicas) == [(address, None, number) for number in (1, 2)]


def test_connections_are_kept_and_closed() -> None:
    address = "grpc://gateway.example:8500"
    network = Network({address: 2})
    replicas = network.replicas(address)
    assert replicas.find() == replicas.find()
    replicas.close()
    assert all(client.closed for client in network.made)
    assert len(network.made) == 5  # itself, 0 and 3, which are none, and 1 and 2
