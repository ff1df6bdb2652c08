"""A share of the calls goes to another label, and falls back if that label is unavailable."""

from __future__ import annotations

import math
import threading
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from tests.conftest import NAME
from tests.functional.client.conftest import as_file

import servable_client as sdk
from servable_client import Client, Split

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    from tests.conftest import RunningServer

    from servable_trainer.data.dataset import Dataset


@pytest.fixture
def server(two_versions: tuple[RunningServer, Callable[..., str]]) -> RunningServer:
    return two_versions[0]


@pytest.fixture
def relabel(
    two_versions: tuple[RunningServer, Callable[..., str]],
) -> Iterator[Callable[..., None]]:
    """Move the labels, and restore them afterwards."""
    server, config = two_versions
    with Client(server.grpc, model=NAME) as admin:
        yield lambda **labels: admin.reload_config(config(**labels))
        admin.reload_config(config(stable=1, canary=2))


def within(count: int, calls: int, share: float) -> bool:
    """Whether a count fits a share, within five standard deviations."""
    return abs(count - calls * share) <= 5 * math.sqrt(calls * share * (1 - share))


def test_the_shares_are_kept(
    make: Callable[..., Any], scheme: str, server: RunningServer, boot: np.ndarray
) -> None:
    with make(server.address(scheme), model=NAME, split={"canary": 0.3}) as client:
        seen = Counter(client.predict({"image": boot[None]}).version for _ in range(200))
        assert set(seen) == {1, 2}
        assert within(seen[2], 200, 0.3), seen
        seen = Counter(client.classify(boot).version for _ in range(60))
        assert within(seen[2], 60, 0.3), seen
        assert {client.classify(boot, label="stable").version for _ in range(20)} == {1}
        assert {client.classify(boot, version=1).version for _ in range(20)} == {1}
        assert client.classify(boot, label="canary").version == 2
        assert client.resolve() == 1


def test_calls_are_counted_by_label(
    make: Callable[..., Any], scheme: str, server: RunningServer, boot: np.ndarray
) -> None:
    split = Split({"canary": 0.4})
    with make(server.address(scheme), model=NAME, split=split) as client:
        versions = Counter(client.classify(boot).version for _ in range(50))
        versions += Counter(a.version for a in client.classify_many([boot] * 30, batch_size=3))
        versions += Counter(client.predict({"image": boot[None]}).version for _ in range(20))
        with pytest.raises(sdk.InvalidInput):
            client.predict({"nothing": boot[None]})
        client.classify(boot, label="canary")  # named, so it is not the split's
        client.classify(boot, version=1)
    calls = split.calls
    assert calls.keys() == {"stable", "canary"}
    assert sum(one.calls for one in calls.values()) == 101
    assert sum(one.errors["INVALID_ARGUMENT"] for one in calls.values()) == 1
    for label, version in (("stable", 1), ("canary", 2)):
        found = calls[label]
        assert found.calls - found.errors.total() == len(found.seconds) == versions[version]
        assert found.answers.total() > 0
        low, high = found.percentile(0.05), found.percentile(0.95)
        assert low is not None
        assert high is not None
        assert 0 < low <= high
    calls["stable"].calls = 0
    assert split.calls["stable"].calls > 0  # a copy


def test_classify_examples_is_split_too(server: RunningServer, boot: np.ndarray) -> None:
    example = {"image/encoded": as_file(boot)}
    with Client(server.grpc, model=NAME, split={"canary": 0.5}) as client:
        seen = Counter(client.classify_examples([example]).version for _ in range(60))
    assert within(seen[2], 60, 0.5), seen


def test_a_chunk_goes_to_one_version(
    make: Callable[..., Any], scheme: str, server: RunningServer, dataset: Dataset
) -> None:
    images = dataset.test.images[:320]
    with make(server.address(scheme), model=NAME, split={"canary": 0.4}) as client:
        versions = [answer.version for answer in client.classify_many(images, batch_size=4)]
    chunks = [set(versions[i : i + 4]) for i in range(0, 320, 4)]
    assert all(len(chunk) == 1 for chunk in chunks)
    assert within(chunks.count({2}), 80, 0.4), chunks


def test_the_clients_own_label_gets_the_rest(server: RunningServer, boot: np.ndarray) -> None:
    with Client(server.grpc, model=NAME, label="canary", split={"stable": 0.25}) as client:
        seen = Counter(client.predict({"image": boot[None]}).version for _ in range(150))
    assert within(seen[1], 150, 0.25), seen


def test_a_seed_gives_the_same_calls(server: RunningServer, boot: np.ndarray) -> None:
    def versions(seed: int) -> list[int | None]:
        split = Split({"canary": 0.5}, seed=seed)
        with Client(server.grpc, model=NAME, split=split) as client:
            return [client.predict({"image": boot[None]}).version for _ in range(30)]

    first = versions(7)
    assert set(first) == {1, 2}
    assert versions(7) == first
    assert versions(8) != first


def test_a_key_keeps_a_user_on_one_version(server: RunningServer, boot: np.ndarray) -> None:
    user = "nobody"
    split = Split({"canary": 0.2}, key=lambda: user)
    with Client(server.grpc, model=NAME, split=split) as client:
        homes = {}
        for user in map(str, range(20)):
            (homes[user],) = {client.predict({"image": boot[None]}).version for _ in range(3)}
    assert set(homes.values()) == {1, 2}


def test_no_call_fails_when_the_canary_is_withdrawn(
    server: RunningServer, relabel: Callable[..., None], dataset: Dataset
) -> None:
    failed: list[Exception] = []
    seen: Counter[int | None] = Counter()
    stop = threading.Event()
    images = dataset.test.images[:16]

    def ask(scheme: str) -> None:
        try:
            with Client(
                server.address(scheme), model=NAME, split={"canary": 0.5}, timeout=60
            ) as client:
                while not stop.is_set():
                    seen[client.classify(images[0]).version] += 1
                    seen[client.predict({"image": images}).version] += 1
                    for answer in client.classify_many(images, batch_size=4):
                        seen[answer.version] += 1
        except Exception as error:  # noqa: BLE001
            failed.append(error)

    def goes_on(version: int, start: int) -> bool:
        return bool(failed) or seen[version] > start + 20

    callers = [threading.Thread(target=ask, args=[scheme]) for scheme in ("grpc", "http")]
    for caller in callers:
        caller.start()
    try:
        for _ in range(4):
            relabel(stable=1, canary=2)
            until(partial(goes_on, 2, seen[2]))
            relabel(stable=1)
            until(partial(goes_on, 1, seen[1]))
    finally:
        stop.set()
        for caller in callers:
            caller.join()
    assert failed == []


def until(condition: Callable[[], object]) -> None:
    waiting = threading.Event()
    while not condition():
        waiting.wait(0.01)


def test_a_label_that_is_unavailable(
    make: Callable[..., Any],
    scheme: str,
    server: RunningServer,
    relabel: Callable[..., None],
    dataset: Dataset,
) -> None:
    relabel(stable=1)
    images = dataset.test.images[:8]
    with make(server.address(scheme), model=NAME, split={"canary": 1.0}) as client:
        assert client.classify(images[0]).version == 1
        assert client.predict({"image": images}).version == 1
        assert [a.version for a in client.classify_many(images, batch_size=4)] == [1] * 8
        # Only the split falls back: a call that names the label fails.
        with pytest.raises(sdk.ModelNotFound, match="label"):
            client.classify(images[0], label="canary")
    with (
        make(server.address(scheme), model=NAME, label="nightly", split={"canary": 1.0}) as client,
        pytest.raises(sdk.ModelNotFound, match="nightly"),
    ):
        client.classify(images[0])


def test_other_errors_of_the_canary_are_raised(
    server: RunningServer, scheme: str, boot: np.ndarray
) -> None:
    asked: list[str] = []
    with (
        Client(
            server.address(scheme),
            model=NAME,
            split={"canary": 1.0},
            on_request=lambda event: asked.append(event.method),
        ) as client,
        pytest.raises(sdk.ModelNotFound, match="nosuch"),
    ):
        client.predict({"image": boot[None]}, signature="nosuch")
    assert asked.count("Predict") == 1


def test_at_a_server_without_labels_the_highest_version_answers(
    make: Callable[..., Any],
    scheme: str,
    server: RunningServer,
    relabel: Callable[..., None],
    dataset: Dataset,
    caplog: pytest.LogCaptureFixture,
) -> None:
    relabel()
    images = dataset.test.images[:8]
    with make(server.address(scheme), model=NAME, split={"canary": 0.5}) as client:
        assert client.wait_until_available(timeout=30) == client.resolve() == 2
        assert client.ready()
        assert {client.classify(image).version for image in images} == {2}
        assert client.predict({"image": images.tolist()}).version == 2
        assert [a.version for a in client.classify_many(images, batch_size=2)] == [2] * 8
        with pytest.raises(sdk.ModelNotFound):
            client.classify(images[0], label="stable")
        warned = [r for r in caplog.records if r.levelname == "WARNING"]
        assert [record.name for record in warned] == ["servable.client"]
        # Once there are labels, they are used.
        relabel(stable=1)
        until(lambda: client.resolve() == 1)
        assert client.classify(images[0]).version == 1
    relabel()
    with (
        make(server.address(scheme), model=NAME, label="stable", split={"canary": 0.5}) as client,
        pytest.raises(sdk.ModelNotFound),
    ):
        client.classify(images[0])
