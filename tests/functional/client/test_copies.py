"""Copies of clients answer, in this process and in others that are not forks of it."""

from __future__ import annotations

import asyncio
import copy
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING, Any

import cloudpickle
import pytest
from tests.conftest import NAME
from tests.functional.client.asking import ask, close

from servable_client import AsyncClient, Client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    from tests.conftest import RunningServer

COPIED: dict[str, Callable[[Any], Any]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda client: pickle.loads(pickle.dumps(client)),
    "cloudpickle": lambda client: pickle.loads(cloudpickle.dumps(client)),
}


@pytest.fixture(scope="module", params=["spawn", "forkserver"])
def pool(request: pytest.FixtureRequest) -> Iterator[ProcessPoolExecutor]:
    """A process that was not forked from this one."""
    if request.param not in multiprocessing.get_all_start_methods():
        pytest.skip(f"{request.param} is not available here")
    context = multiprocessing.get_context(request.param)
    with ProcessPoolExecutor(1, mp_context=context) as executor:
        yield executor


@pytest.fixture(params=["unused", "used", "closed"])
def original(
    request: pytest.FixtureRequest, kind: Any, server: RunningServer, scheme: str, boot: np.ndarray
) -> Iterator[Client | AsyncClient]:
    """A client in each state."""
    client = kind(server.address(scheme), model=NAME, timeout=20)
    if request.param == "used" and isinstance(client, AsyncClient):
        with asyncio.Runner() as loop:
            loop.run(client.classify(boot))
            yield client
            loop.run(client.close())
        return
    if request.param == "used":
        client.classify(boot)
    elif request.param == "closed":
        ask(client, boot)
    yield client
    close(client)


KINDS = pytest.mark.parametrize("kind", [Client, AsyncClient])


@KINDS
@pytest.mark.parametrize("way", COPIED)
def test_a_copy_answers(original: Client | AsyncClient, way: str, boot: np.ndarray) -> None:
    assert ask(COPIED[way](original), boot).label == "Ankle boot"


@KINDS
def test_a_client_answers_in_a_process_that_was_started_anew(
    pool: ProcessPoolExecutor, original: Client | AsyncClient, boot: np.ndarray
) -> None:
    answer = pool.submit(ask, original, boot).result(60)
    assert (answer.label, answer.top(1)[0].class_id) == ("Ankle boot", 9)


def test_an_original_answers_after_its_copy_was_closed(
    server: RunningServer, scheme: str, boot: np.ndarray
) -> None:
    with Client(server.address(scheme), model=NAME) as client:
        client.classify(boot)
        copy.copy(client).close()
        assert client.classify(boot).label == "Ankle boot"


def test_answers_of_a_server_are_pickled(server: RunningServer, scheme: str) -> None:
    with Client(server.address(scheme), model=NAME) as client:
        for answer in (client.status(), client.metadata(), client.signature()):
            assert pickle.loads(pickle.dumps(answer)) == answer


def test_a_prediction_is_pickled_with_outputs_that_were_not_read(
    server: RunningServer, scheme: str, boot: np.ndarray
) -> None:
    with Client(server.address(scheme), model=NAME) as client:
        answer = pickle.loads(pickle.dumps(client.predict({"image": [boot, boot]})))
    assert answer["label"].tolist() == [b"Ankle boot"] * 2
    assert answer["class_id"].tolist() == [9, 9]
