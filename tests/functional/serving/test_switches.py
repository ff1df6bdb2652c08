"""Versions that follow each other while 8 callers ask: every answer is its version's own."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import grpc
import requests
import tensorflow as tf
from tests.conftest import serving
from tests.functional.serving.calls import PREDICTION, call, eventually, linear
from tests.functional.serving.fixture_models import Linear, save

from servable_client import Client

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import RunningServer

SWITCHES = 10
CALLERS = 8


@dataclass
class Watched:
    """What is known of the versions from outside."""

    oldest: int = 1  # those before it had gone when it was written here
    newest: int = 1  # those beyond it were not there yet
    stopping: threading.Event = field(default_factory=threading.Event)


def ask_grpc(server: RunningServer, watched: Watched) -> list[int]:
    """Ask until told to stop; the versions that answered."""
    seen: list[int] = []
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        while not watched.stopping.is_set():
            oldest, row = watched.oldest, [1.0, len(seen) % 100, -3.0]
            answer = call(channel, f"{PREDICTION}Predict", linear([row]))
            newest = watched.newest
            version = answer.model_spec.version.value
            y = tf.make_ndarray(answer.outputs["y"]).tolist()
            assert y == [[(version + 1) * x + 1 for x in row]]
            assert oldest <= version <= newest
            seen.append(version)
    return seen


def ask_rest(server: RunningServer, watched: Watched) -> list[int]:
    """The same over REST, where an answer names no version: its slope tells which it was."""
    seen: list[int] = []
    with requests.Session() as session:
        while not watched.stopping.is_set():
            oldest, row = watched.oldest, [1.0, len(seen) % 100, -3.0]
            reply = session.post(
                f"{server.http}/v1/models/linear:predict", json={"instances": [row]}, timeout=60
            )
            newest = watched.newest
            assert reply.status_code == 200, reply.text
            (y,) = reply.json()["predictions"]
            version = round(y[0]) - 2
            assert y == [(version + 1) * x + 1 for x in row]
            assert oldest <= version <= newest
            seen.append(version)
    return seen


def test_ten_switches_under_eight_callers(tmp_path: Path) -> None:
    made, base = tmp_path / "made", tmp_path / "linear"
    for version in range(1, SWITCHES + 2):
        save(Linear(version + 1), made / str(version))
    base.mkdir()
    (made / "1").rename(base / "1")
    watched = Watched()
    with (
        serving(base, tmp_path / "log", model="linear") as server,
        Client(server.grpc, model="linear") as client,
        ThreadPoolExecutor(CALLERS) as executor,
    ):
        callers = [
            executor.submit(ask, server, watched) for ask in (ask_grpc, ask_rest) * (CALLERS // 2)
        ]

        def end_of(version: int) -> bool:
            states = {v.version: v.state for v in client.status()}
            return states[version] == "END" or any(caller.done() for caller in callers)

        try:
            for version in range(2, SWITCHES + 2):
                watched.newest = version
                (made / str(version)).rename(base / str(version))
                eventually(lambda: end_of(version - 1))  # noqa: B023
                watched.oldest = version
        finally:
            watched.stopping.set()
        seen = [caller.result() for caller in callers]
    for versions in seen:
        assert versions == sorted(versions)
    assert {version for versions in seen for version in versions} >= set(range(1, SWITCHES + 1))
    assert "Traceback" not in server.log.read_text()
