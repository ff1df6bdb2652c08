"""What is asked again of what the gateway mirrors, with servers in memory."""

from __future__ import annotations

import gzip
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest

from servable_client._wire import wire_pb2 as wire
from servable_serving.mirror.ask import GRPC_PREDICT, Mirrored, NotPredict, Servers
from servable_serving.mirror.comparison import Asked, Pair
from servable_serving.mirror.worker import Mirror, Waiting

if TYPE_CHECKING:
    from collections.abc import Iterator

PAIR = Pair(model="m", version=3, name="m.shadow", against=1, until=1)
REST = "/v1/models/m:predict"


class FakeServers(Servers):
    """Answers everything, once it may."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, int]] = []
        self.may = threading.Event()
        self.may.set()

    def ask(self, request: Mirrored, model: str, version: int) -> Asked:
        self.may.wait()
        self.asked.append((request.name, model, version))
        return Asked(status="OK", seconds=0.1, answer={"y": np.ones(1)})

    def close(self) -> None:
        pass


@pytest.fixture
def servers() -> FakeServers:
    return FakeServers()


@pytest.fixture
def mirror(servers: FakeServers) -> Iterator[Mirror]:
    mirror = Mirror(servers)
    yield mirror
    servers.may.set()
    mirror.close()


def frame(message: wire.PredictRequest, *, zipped: bool = False) -> bytes:
    data = message.SerializeToString()
    data = gzip.compress(data) if zipped else data
    return bytes([zipped]) + len(data).to_bytes(4, "big") + data


def test_both_versions_are_asked_by_their_names(mirror: Mirror, servers: FakeServers) -> None:
    mirror.take(Waiting(path=REST, body=b"{}", name="r1", pairs=[PAIR]))
    mirror.wait()
    assert sorted(servers.asked) == [("r1", "m", 1), ("r1", "m.shadow", 3)]
    assert mirror.comparison(PAIR).as_json()["requests"] == 1


@pytest.mark.parametrize(
    ("path", "count"),
    [
        ("/v1/models/m/versions/1:predict", 2),
        ("/v1/models/m/labels/stable:predict", 2),
        ("/v1/models/m/versions/3:predict", 0),
        ("/v1/models/m/labels/canary:predict", 0),
        ("/v1/models/other:predict", 0),
        ("/v1/models/m:classify", 0),
        ("/v1/models/m", 0),
        ("", 0),
    ],
)
def test_what_the_served_version_answers_is_asked(
    mirror: Mirror, servers: FakeServers, path: str, count: int
) -> None:
    mirror.take(Waiting(path=path, body=b"{}", name="r", pairs=[PAIR]))
    mirror.wait()
    assert len(servers.asked) == count


def test_the_message_names_the_model_over_grpc(mirror: Mirror, servers: FakeServers) -> None:
    other = Pair(model="n", version=8, name="n", against=7, until=1)
    message = wire.PredictRequest(model_spec=wire.ModelSpec(name="n", version_label="stable"))
    for zipped in (False, True):
        body = frame(message, zipped=zipped)
        mirror.take(Waiting(path=GRPC_PREDICT, body=body, name="g", pairs=[PAIR, other]))
    mirror.wait()
    assert sorted(servers.asked) == [("g", "n", 7)] * 2 + [("g", "n", 8)] * 2
    assert mirror.comparison(other).as_json()["transports"] == {"grpc": 2}
    assert mirror.comparison(PAIR).as_json()["requests"] == 0


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\0\0\0\0\x05ab",
        b"\1\0\0\0\x02ab",
        b"\0\0\0\0\x02\xff\xff",
        frame(wire.PredictRequest()) * 2,
    ],
)
def test_what_is_no_message(body: bytes) -> None:
    with pytest.raises(NotPredict):
        Mirrored.read(GRPC_PREDICT, body, name="g")


def test_a_message_is_not_unpacked_without_end() -> None:
    bomb = gzip.compress(bytes(65 << 20))
    body = b"\1" + len(bomb).to_bytes(4, "big") + bomb
    with pytest.raises(NotPredict, match="too large"):
        Mirrored.read(GRPC_PREDICT, body, name="g")


def test_beyond_a_limit_requests_are_dropped(mirror: Mirror, servers: FakeServers) -> None:
    servers.may.clear()
    for number in range(1100):
        mirror.take(Waiting(path=REST, body=b"{}", name=str(number), pairs=[PAIR]))
    dropped = mirror.comparison(PAIR).as_json()["dropped"]
    assert 90 <= dropped <= 100  # of 1,000 places, and four being asked
    servers.may.set()
    mirror.wait()
    assert mirror.comparison(PAIR).as_json()["requests"] == 1100 - dropped


def test_large_bodies_are_bounded_by_their_sum(mirror: Mirror, servers: FakeServers) -> None:
    servers.may.clear()
    body = bytes(16 << 20)
    for _ in range(6):
        mirror.take(Waiting(path=REST, body=body, name="large", pairs=[PAIR]))
    assert mirror.comparison(PAIR).as_json()["dropped"] == 2
    servers.may.set()
    mirror.wait()
    mirror.take(Waiting(path=REST, body=body, name="large", pairs=[PAIR]))
    assert mirror.comparison(PAIR).as_json()["dropped"] == 2


def test_old_comparisons_are_forgotten(mirror: Mirror) -> None:
    pairs = [Pair(model="m", version=2, name="m", against=1, until=end) for end in range(20)]
    for pair in pairs:
        mirror.comparison(pair)
    assert mirror.pairs() == pairs[-8:]
