"""What the mirror takes over HTTP, with servers in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import requests
from tests.unit.serving.mirror.test_worker import FakeServers

from servable_serving.mirror.server import MirrorServer
from servable_serving.mirror.worker import Mirror

if TYPE_CHECKING:
    from collections.abc import Iterator

SHADOW = "m 3 m.shadow 1 100"
PATH = "/v1/models/m:predict"


@pytest.fixture
def mirror() -> Iterator[tuple[str, Mirror, FakeServers]]:
    servers = FakeServers()
    worker = Mirror(servers)
    with MirrorServer(worker, host="127.0.0.1", port=0) as server:
        yield f"http://127.0.0.1:{server.port}", worker, servers


def test_a_request_is_taken_and_told_of(mirror: tuple[str, Mirror, FakeServers]) -> None:
    address, worker, servers = mirror
    headers = {
        "X-Servable-Shadow": f"n 2 n 1 100,{SHADOW}", "X-Servable-Path": f"{PATH}?x=1",
        "X-Request-Id": "r1",
    }  # fmt: skip
    assert requests.post(f"{address}/mirror", data=b"{}", headers=headers, timeout=60).ok
    worker.wait()
    assert sorted(servers.asked) == [("r1", "m", 1), ("r1", "m.shadow", 3)]
    found = requests.get(f"{address}/comparisons", timeout=60).json()
    pair = {"model": "m", "version": 3, "name": "m.shadow", "against": 1, "until": 100}
    (one,) = [one for one in found if one["pair"] == pair]
    assert one["requests"] == 1
    assert requests.get(f"{address}/drift", timeout=60).json() == []


@pytest.mark.parametrize("shadow", ["", "m 3 1", "m x m 1 5", ",,"])
def test_a_request_that_is_for_nothing_is_refused(
    shadow: str, mirror: tuple[str, Mirror, FakeServers]
) -> None:
    headers = {"X-Servable-Shadow": shadow, "X-Servable-Path": PATH}
    answer = requests.post(f"{mirror[0]}/mirror", data=b"{}", headers=headers, timeout=60)
    assert answer.status_code == 400


def test_a_large_request_is_dropped(mirror: tuple[str, Mirror, FakeServers]) -> None:
    address, worker, servers = mirror
    headers = {"X-Servable-Shadow": SHADOW, "X-Servable-Path": PATH}
    body = bytes((2 << 20) + 1)
    answer = requests.post(f"{address}/mirror", data=body, headers=headers, timeout=60)
    assert answer.status_code == 413
    worker.wait()
    assert servers.asked == []
    assert requests.get(f"{address}/comparisons", timeout=60).json()[0]["dropped"] == 1
