"""Several servers behind one gateway: all get traffic, and one that goes takes nothing with it."""

from __future__ import annotations

import os
import socket
import threading
from collections import Counter
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest
import requests
from tests.conftest import serving
from tests.functional.gateway.gateway import ROWS, callers, gateway, shared_port
from tests.functional.serving.calls import eventually

from servable_client import Client, InvalidInput
from servable_serving.release.server_group import ServerGroup

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import RunningServer
    from tests.functional.gateway.gateway import Gateway

SCHEMES = ("grpcs", "https", "grpc", "http")
HOSTS = ("127.0.0.1", "127.0.0.2", "127.0.0.3")


@contextmanager
def servers(models: Path, folder: Path, hosts: tuple[str, ...]) -> Iterator[list[RunningServer]]:
    """One at each of several addresses of this machine, all at the same ports."""
    port, rest_port = shared_port(*hosts), shared_port(*hosts)
    with ExitStack() as stack:
        started = [
            stack.enter_context(
                serving(
                    models / "linear", folder / host, f"--host={host}", f"--port={port}",
                    f"--rest_api_port={rest_port}", model="linear", wait=False,
                )
            )
            for host in hosts
        ]  # fmt: skip
        for host, server in zip(hosts, started, strict=True):
            server.port, server.rest_port = port, rest_port
            with Client(f"http://{host}:{rest_port}", model="linear") as client:
                client.wait_until_available(timeout=300)
        yield started


def by_server(gateway: Gateway, transport: str) -> Counter[str]:
    """How many requests each address had the last word on."""
    return Counter(
        line["upstream"].rpartition(", ")[2].partition(":")[0]
        for line in gateway.lines()
        if line["transport"] == transport and line["upstream"]
    )


@pytest.fixture(scope="module")
def fleet(
    small_models: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[RunningServer]]:
    with servers(small_models, tmp_path_factory.mktemp("fleet"), HOSTS) as started:
        yield started


@pytest.fixture(scope="module")
def before_fleet(
    fleet: list[RunningServer], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    with gateway(
        tmp_path_factory.mktemp("gateway"),
        grpc_port=fleet[0].port,
        rest_port=fleet[0].rest_port,
        SERVABLE_UPSTREAM=",".join(HOSTS),
    ) as running:
        yield running


@pytest.mark.parametrize("scheme", SCHEMES)
def test_each_server_can_be_asked_by_its_number(before_fleet: Gateway, scheme: str) -> None:
    for number, host in enumerate(HOSTS, 1):
        name = f"by-number-{scheme}-{number}"
        headers = {"x-servable-server": str(number), "x-request-id": name}
        with before_fleet.client(scheme, headers=headers, timeout=60) as client:
            for _ in range(4):
                client.predict({"x": np.array(ROWS, np.float32)})

        def upstreams(name: str = name) -> list[str]:
            return [
                line["upstream"].partition(":")[0]
                for line in before_fleet.lines()
                if line["request_id"] == name and line["method"].lower() == "predict"
            ]

        eventually(lambda: len(upstreams()) == 4)
        assert upstreams() == [host] * 4


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("number", ["0", "4", "-1", "01", "127.0.0.1", "1; return 200"])
def test_a_server_that_is_not_there_is_refused(
    before_fleet: Gateway, scheme: str, number: str
) -> None:
    headers = {"x-servable-server": number}
    with before_fleet.client(scheme, headers=headers, timeout=60) as client:
        for ask in (client.status, partial(client.predict, {"x": np.array(ROWS, np.float32)})):
            with pytest.raises(InvalidInput, match="x-servable-server") as caught:
                ask()
            assert caught.value.code == "OUT_OF_RANGE"


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_a_release_finds_each_server(before_fleet: Gateway, scheme: str) -> None:
    address = before_fleet.address(scheme)
    with ServerGroup(address, model="linear") as servers:
        assert [client.endpoint for client in servers.clients] == [
            f"server {number} behind {address}" for number in (1, 2, 3)
        ]
        assert [set(states) for states in servers.states()] == [{4}] * 3


def test_all_get_traffic_and_one_that_goes_fails_no_request(
    fleet: list[RunningServer], tmp_path: Path
) -> None:
    """A name that stands for another set of servers is followed, too."""
    # Name service is not the gateway's: the answer that getent would give stands in a file.
    names = tmp_path / "bin" / "names"
    names.parent.mkdir()
    getent = names.with_name("getent")
    getent.write_text(f'#!/bin/sh\nexec cat "{names}"\n')
    getent.chmod(0o755)

    def stand_for(*hosts: str) -> None:
        names.with_name("new").write_text("".join(f"{host} STREAM serving\n" for host in hosts))
        names.with_name("new").rename(names)

    stand_for(HOSTS[0])
    with gateway(
        tmp_path,
        grpc_port=fleet[0].port,
        rest_port=fleet[0].rest_port,
        SERVABLE_UPSTREAM="serving",
        PATH=f"{names.parent}:{os.environ['PATH']}",
    ) as running:
        with callers(running, "grpc", "grpcs", "http", "https") as (asked, failed):
            eventually(lambda: asked[0] > 20 and by_server(running, "rest"))
            assert set(by_server(running, "rest")) == {HOSTS[0]}
            stand_for(*HOSTS)

            def all_are_asked(transport: str) -> bool:
                return min(by_server(running, transport)[h] for h in HOSTS) > 20

            for transport in ("rest", "grpc"):
                eventually(partial(all_are_asked, transport))
            fleet[2].process.terminate()
            fleet[2].process.wait(60)
            fleet[1].process.kill()
            fleet[1].process.wait(60)
            before = asked[0]
            eventually(lambda: asked[0] > before + 100)
            stand_for(HOSTS[0])
            before = asked[0]
            eventually(lambda: asked[0] > before + 100)
        assert not failed, failed[:3]


class Fatal:
    """A server that reads a request and ends, as one does that a request has crashed."""

    def __init__(self, host: str, port: int) -> None:
        self.bodies: list[bytes] = []
        self._listener = socket.create_server((host, port))
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            with connection:
                request = connection.recv(65536)
                if not request:
                    return
                # Whoever looks after the gateway's readiness asks with GET.
                if request.startswith(b"POST"):
                    self.bodies.append(request)

    def close(self) -> None:
        with socket.create_connection(self._listener.getsockname()):
            pass
        self._thread.join()
        self._listener.close()


def test_a_request_that_ends_a_server_is_not_sent_to_the_next(tmp_path: Path) -> None:
    hosts = HOSTS[:2]
    port = shared_port(*hosts)
    fatal = [Fatal(host, port) for host in hosts]
    try:
        with gateway(
            tmp_path,
            grpc_port=port,
            rest_port=port,
            wait=False,
            SERVABLE_UPSTREAM=",".join(hosts),
        ) as running:
            answer = running.ask()
            assert answer.status_code == 502
            assert sum(len(server.bodies) for server in fatal) == 1
    finally:
        for server in fatal:
            server.close()


def test_a_server_that_cannot_be_connected_to_is_passed_over(
    backend: RunningServer, tmp_path: Path
) -> None:
    """Such a request has reached nobody, so another server may have it."""
    with gateway(
        tmp_path,
        grpc_port=backend.port,
        rest_port=backend.rest_port,
        # Nobody listens at the second and the third.
        SERVABLE_UPSTREAM=",".join(HOSTS),
    ) as running:
        answers = [running.ask() for _ in range(20)]
        assert [answer.status_code for answer in answers] == [200] * 20
        tried = [line["upstream"] for line in running.lines() if line["method"] == "predict"]
        assert any(", " in upstream for upstream in tried), tried
        with requests.Session() as session:
            assert session.get(f"{running.rest}/v1/models/linear", timeout=60).ok
