"""Which errors are retried, when, and for how long."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from tests.conftest import NAME
from tests.functional.client.gateways import Refusal

import servable_client as sdk
from servable_client import Retry
from servable_client._wire import wire_pb2 as wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Decide = "Callable[[str, dict[str, str]], Refusal | None]"


def first(count: int, refusal: Refusal) -> Any:
    """Refuse the first requests, and forward the others."""
    left = [refusal] * count
    return lambda *_: left.pop() if left else None


@pytest.mark.parametrize(
    "refusal",
    [
        Refusal("UNAVAILABLE"),
        Refusal("UNAVAILABLE", status=502),
        Refusal("UNAVAILABLE", status=503, retry_after=0),
        Refusal("RESOURCE_EXHAUSTED", retry_after=0),
    ],
    ids=str,
)
def test_transient_errors_are_retried(
    make: Callable[..., Any], gateway: Callable[..., Any], scheme: str, refusal: Refusal
) -> None:
    front = gateway(scheme, first(2, refusal))
    with make(front.address, model=NAME) as client:
        assert client.status()[0].version == 1
    assert len(front.seen) == 3


def test_504_is_retried(make: Callable[..., Any], gateway: Callable[..., Any]) -> None:
    front = gateway("http", first(1, Refusal("DEADLINE_EXCEEDED", status=504)))
    with make(front.address, model=NAME) as client:
        assert client.status()[0].version == 1
    assert len(front.seen) == 2


@pytest.mark.parametrize("code", ["INVALID_ARGUMENT", "INTERNAL", "NOT_FOUND"])
def test_other_errors_are_not_retried(
    make: Callable[..., Any], gateway: Callable[..., Any], scheme: str, code: str
) -> None:
    front = gateway(scheme, lambda *_: Refusal(code))
    with make(front.address, model=NAME) as client, pytest.raises(sdk.ServableError):
        client.status()
    assert len(front.seen) == 1


@contextmanager
def server_without_a_queue(at_once: int, full: threading.Event) -> Iterator[str]:
    """A server that refuses calls beyond its threads as TensorFlow Serving does.

    It says nothing of when to come again. It answers GetModelStatus, at first once `full` is set.
    """
    answer = wire.GetModelStatusResponse(
        model_version_status=[wire.ModelVersionStatus(version=1, state="AVAILABLE")]
    ).SerializeToString()

    def status(_request: bytes, _context: object) -> bytes:
        assert full.wait(60)
        return answer

    methods = {"GetModelStatus": grpc.unary_unary_rpc_method_handler(status)}
    handlers = [grpc.method_handlers_generic_handler("tensorflow.serving.ModelService", methods)]
    server = grpc.server(ThreadPoolExecutor(at_once), handlers, maximum_concurrent_rpcs=at_once)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"grpc://127.0.0.1:{port}"
    finally:
        server.stop(None)


def ask_by_threads(callers: int, calls: int, *args: Any, **kwargs: Any) -> None:
    with sdk.Client(*args, **kwargs) as client, ThreadPoolExecutor(callers) as executor:
        list(executor.map(lambda _: client.status(), range(callers * calls)))


def ask_by_tasks(callers: int, calls: int, *args: Any, **kwargs: Any) -> None:
    async def ask() -> None:
        async with sdk.AsyncClient(*args, **kwargs) as client:

            async def caller() -> None:
                for _ in range(calls):
                    await client.status()

            await asyncio.gather(*[caller() for _ in range(callers)])

    asyncio.run(ask())


@pytest.mark.parametrize(
    ("ask", "libcurl"),
    [(ask_by_threads, "1"), (ask_by_threads, "0"), (ask_by_tasks, "1"), (ask_by_tasks, "0")],
    ids=["threads", "threads-grpcio", "tasks", "tasks-grpcio"],
)
def test_calls_beyond_the_threads_of_a_server_succeed(
    ask: Callable[..., None], libcurl: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVABLE_LIBCURL", libcurl)
    at_once, callers, calls = 64, 100, 15
    full, attempts = threading.Event(), Counter[str]()

    def seen(event: sdk.ResponseEvent) -> None:
        attempts[event.code] += 1
        # Until all callers beyond the threads are refused, those before them are in progress.
        if attempts["RESOURCE_EXHAUSTED"] >= callers - at_once:
            full.set()

    options: dict[str, Any] = {
        "model": NAME,
        "timeout": 60,
        "retry": Retry(budget=0, maximum=0.2),
        "on_response": seen,
    }
    with server_without_a_queue(at_once, full) as address:
        ask(callers, calls, address, **options)
    assert attempts["OK"] == callers * calls
    assert attempts["RESOURCE_EXHAUSTED"] >= callers - at_once


def test_the_delay_of_the_server_is_respected(
    make: Callable[..., Any], gateway: Callable[..., Any], scheme: str
) -> None:
    front = gateway(scheme, first(1, Refusal("RESOURCE_EXHAUSTED", retry_after=1)))
    with make(front.address, model=NAME) as client:
        began = time.monotonic()
        client.status()
        assert time.monotonic() - began >= 1
    with make(front.address, model=NAME, retry=Retry(attempts=1)) as client:
        front = gateway(scheme, lambda *_: Refusal("RESOURCE_EXHAUSTED", retry_after=7))
    with make(front.address, model=NAME) as client, pytest.raises(sdk.ServerBusy) as caught:
        client.status(timeout=2)  # seven seconds are past the deadline
    assert caught.value.retry_after == 7
    assert len(front.seen) == 1


def test_nothing_is_retried_past_the_deadline(
    make: Callable[..., Any], gateway: Callable[..., Any], scheme: str
) -> None:
    front = gateway(scheme, lambda *_: Refusal("UNAVAILABLE"))
    retry = Retry(attempts=10_000, initial=0.05, maximum=0.05, budget=10_000)
    # However little time is left for the last attempt.
    with (
        make(front.address, model=NAME, retry=retry) as client,
        pytest.raises(sdk.ConnectionFailed, match="refused by the gateway"),
    ):
        client.status(timeout=2)
    assert len(front.seen) > 1


@pytest.fixture
def silence() -> Iterator[threading.Event]:
    """An event for a server that does not respond before the end of the test."""
    event = threading.Event()
    yield event
    event.set()


@pytest.mark.parametrize("wait", [3, 0], ids=["for a little", "for long"])
def test_refused_then_timed_out(
    make: Callable[..., Any],
    gateway: Callable[..., Any],
    scheme: str,
    silence: threading.Event,
    wait: int,
) -> None:
    refusals = first(1, Refusal("UNAVAILABLE", retry_after=wait))

    def decide(*asked: Any) -> Any:
        return refusals(*asked) or (silence.wait(60) and None)

    front = gateway(scheme, decide)
    with make(front.address, model=NAME) as client, pytest.raises(sdk.ServableError) as caught:
        client.status(timeout=4)
    assert len(front.seen) == 2
    # The error is the refusal, unless the last attempt had most of the time.
    assert type(caught.value) is (sdk.ConnectionFailed if wait else sdk.DeadlineExceeded)
    assert "refused by the gateway" in str(caught.value)
    assert "no response" in str(caught.value)
    assert caught.value.hint


def test_attempts_are_counted(
    make: Callable[..., Any], gateway: Callable[..., Any], scheme: str
) -> None:
    front = gateway(scheme, lambda *_: Refusal("UNAVAILABLE"))
    retry = Retry(attempts=3, initial=0.01, maximum=0.01)
    with (
        make(front.address, model=NAME, retry=retry) as client,
        pytest.raises(sdk.ConnectionFailed),
    ):
        client.status()
    assert len(front.seen) == 3


def test_the_budget_runs_out(
    make: Callable[..., Any], gateway: Callable[..., Any], scheme: str
) -> None:
    front = gateway(scheme, lambda *_: Refusal("UNAVAILABLE"))
    retry = Retry(attempts=5, initial=0, maximum=0, budget=6)
    with make(front.address, model=NAME, retry=retry) as client:
        for _ in range(10):
            with pytest.raises(sdk.ConnectionFailed):
                client.status()
    assert len(front.seen) == 10 + 6
