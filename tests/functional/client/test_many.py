"""classify_many: order, bounded read-ahead and failures."""

from __future__ import annotations

import itertools
import signal
import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tests.conftest import NAME, SHIPPED, free_port, serving
from tests.functional.client.conftest import KINDS, Blocking, as_file
from tests.functional.client.gateways import Refusal

import servable_client as sdk
from servable_client import Client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from tests.conftest import RunningServer

    from servable_trainer.data.dataset import Dataset


def test_answers_are_in_order_and_those_of_single_calls(client: Any, dataset: Dataset) -> None:
    images = dataset.test.images[:200]
    answers = list(client.classify_many(images, batch_size=16, concurrency=4))
    assert len(answers) == 200
    for index in (0, 1, 15, 16, 63, 64, 199):
        alone = client.classify(images[index])
        assert answers[index].label == alone.label
        assert answers[index].version == 1
        np.testing.assert_allclose(
            answers[index].probabilities, alone.probabilities, rtol=1e-3, atol=1e-5
        )


def test_all_forms_in_one_stream(client: Any, dataset: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "boot.png"
    path.write_bytes(as_file(dataset.test.images[0]))
    pictures = [
        dataset.test.images[1],
        path,
        as_file(dataset.test.images[2]),
        dataset.test.images[0],
    ]
    labels = [answer.label for answer in client.classify_many(pictures * 5, batch_size=7)]
    assert labels == ["Pullover", "Ankle boot", "Trouser", "Ankle boot"] * 5


def test_an_endless_iterable_is_read_a_little_ahead(client: Any, boot: np.ndarray) -> None:
    taken = 0

    def endless() -> Iterator[np.ndarray]:
        nonlocal taken
        while True:
            taken += 1
            yield boot

    answers = client.classify_many(endless(), batch_size=8, concurrency=2)
    for count, answer in enumerate(itertools.islice(answers, 50), 1):
        assert answer.label == "Ankle boot"
        assert taken <= count + 8 * 3
    answers.close()


def test_an_asynchronous_iterable(server: RunningServer, dataset: Dataset) -> None:
    async def pictures() -> AsyncIterator[np.ndarray]:
        for image in dataset.test.images[:20]:
            yield image

    with Blocking(server.grpc, model=NAME) as client:
        assert len(list(client.classify_many(pictures(), batch_size=6))) == 20


def spoilt(dataset: Dataset) -> list[Any]:
    pictures: list[Any] = [*dataset.test.images[:40]]
    pictures[5] = np.zeros([28, 28], np.float32)
    pictures[17] = "/nowhere/boot.png"
    pictures[30] = np.zeros([27, 28], np.uint8)
    return pictures


def test_an_error_is_in_the_place_of_its_image(client: Any, dataset: Dataset) -> None:
    answers = list(client.classify_many(spoilt(dataset), batch_size=8, on_error="return"))
    failed = [i for i, answer in enumerate(answers) if isinstance(answer, sdk.ServableError)]
    assert failed == [5, 17, 30]
    assert all(isinstance(answers[i], sdk.InvalidInput) for i in failed)
    assert len(answers) == 40


def test_the_first_failure_is_raised_after_the_answers_before_it(
    client: Any, dataset: Dataset
) -> None:
    answers: list[sdk.Classification] = []
    with pytest.raises(sdk.InvalidInput, match="float32") as caught:
        answers.extend(client.classify_many(spoilt(dataset), batch_size=8))
    assert len(answers) == 5
    assert caught.value.index == 5


def test_an_image_that_only_the_server_refuses_is_found(
    make: Callable[..., Any], gateway: Callable[..., Any], scheme: str, dataset: Dataset
) -> None:
    pictures: list[Any] = [as_file(image) for image in dataset.test.images[:33]]
    front = gateway(scheme, lambda *_: None, poison=pictures[20])
    with make(front.address, model=NAME, timeout=20) as client:
        answers = list(client.classify_many(pictures, batch_size=33, on_error="return"))
        failed = [i for i, answer in enumerate(answers) if isinstance(answer, sdk.ServableError)]
        assert failed == [20]
        assert answers[20].code == "INVALID_ARGUMENT"
        assert answers[19].label == client.classify(pictures[19]).label
        # Bisection: the chunk of 33, and two requests for each of its 5 or 6 levels.
        assert len([method for method, _ in front.seen if method == "Predict"]) <= 20


def test_an_iterable_that_fails_does_so_after_the_answers_before(
    client: Any, boot: np.ndarray
) -> None:
    def broken() -> Iterator[np.ndarray]:
        for _ in range(10):
            yield boot
        raise OSError("the disk is gone")

    answers: list[sdk.Classification] = []
    with pytest.raises(OSError, match="the disk is gone"):
        answers.extend(client.classify_many(broken(), batch_size=4))
    assert len(answers) == 10


def test_no_images_give_no_answers(client: Any) -> None:
    assert list(client.classify_many([])) == []


def test_a_stream_that_is_abandoned_cleans_up(
    server: RunningServer, scheme: str, boot: np.ndarray
) -> None:
    with Client(server.address(scheme), model=NAME) as client:
        for _ in client.classify_many([boot] * 1000, batch_size=4):
            break
    assert not [t for t in threading.enumerate() if t.name.startswith("servable")]


def test_many_threads_share_a_client(server: RunningServer, scheme: str, dataset: Dataset) -> None:
    images = dataset.test.images[:64]
    found: dict[int, list[int]] = {}
    with Client(server.address(scheme), model=NAME, timeout=60) as client:
        expected = [answer.class_id for answer in client.classify_many(images)]

        def ask(number: int) -> None:
            found[number] = [client.classify(image).class_id for image in images]

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == dict.fromkeys(range(8), expected)


@pytest.fixture
def three(tmp_path: Path) -> Iterator[list[RunningServer]]:
    """Three servers of the shipped model."""
    with ExitStack() as stack:
        starting = [
            stack.enter_context(serving(SHIPPED.parent, tmp_path / f"log{i}", wait=False))
            for i in range(3)
        ]
        for server in starting:
            with Client(server.http, model=NAME) as client:
                client.wait_until_available(timeout=120)
        yield starting


def test_one_of_three_servers_is_killed_then_all(
    three: list[RunningServer], dataset: Dataset
) -> None:
    images = np.concatenate([dataset.test.images[:600]] * 2)
    for victim, (kind, scheme) in enumerate((("sync", "grpc"), ("async", "http"))):
        alive = three[victim:]
        servers = [server.address(scheme) for server in three]
        with KINDS[kind](servers, model=NAME, timeout=20) as client:
            expected = [client.classify(image).class_id for image in images[:20]]
            answers: list[Any] = []
            for answer in client.classify_many(images, batch_size=8, concurrency=8):
                if len(answers) == 200:
                    alive[0].process.send_signal(signal.SIGKILL)
                answers.append(answer)
            assert len(answers) == len(images)
            assert [answer.class_id for answer in answers[:20]] == expected
    three[2].process.kill()
    for server in three:
        server.process.wait()
    for kind, scheme in itertools.product(KINDS.values(), ("grpc", "http")):
        servers = [server.address(scheme) for server in three]
        with kind(servers, model=NAME, timeout=2) as client:
            with pytest.raises(sdk.ConnectionFailed):
                client.classify(images[0])
            with pytest.raises(sdk.ConnectionFailed):
                list(client.classify_many(images[:10]))


def test_an_unavailable_address_is_skipped_and_retried(
    make: Callable[..., Any], gateway: Callable[..., Any], server: RunningServer, scheme: str
) -> None:
    dead = threading.Event()
    dead.set()
    front = gateway(scheme, lambda *_: Refusal("UNAVAILABLE") if dead.is_set() else None)
    events: list[sdk.ResponseEvent] = []
    with make([front.address, server.address(scheme)], model=NAME, on_response=events.append) as c:
        for _ in range(10):
            c.status()
        asked = [event for event in events if event.request.endpoint == front.address]
        assert asked
        assert all(event.code == "UNAVAILABLE" for event in asked)
        dead.clear()
        end = time.monotonic() + 60
        while time.monotonic() < end:
            c.status()
            if events[-1].request.endpoint == front.address and events[-1].code == "OK":
                break
            time.sleep(0.05)
        assert events[-1].request.endpoint == front.address


def test_an_address_that_is_down_fails_no_call(
    make: Callable[..., Any], server: RunningServer, scheme: str, boot: np.ndarray
) -> None:
    servers = f"{scheme}://127.0.0.1:{free_port()}, {server.address(scheme)}"
    with make(servers, model=NAME) as client:
        for _ in range(6):
            assert client.classify(boot).label == "Ankle boot"
