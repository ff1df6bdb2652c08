"""Which errors are retried, when, and for how long."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from tests.conftest import NAME
from tests.functional.client.gateways import Refusal

import servable_client as sdk
from servable_client import Retry

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


@pytest.mark.parametrize(
    "code", ["INVALID_ARGUMENT", "INTERNAL", "RESOURCE_EXHAUSTED", "NOT_FOUND"]
)
def test_other_errors_are_not_retried(
    make: Callable[..., Any], gateway: Callable[..., Any], scheme: str, code: str
) -> None:
    front = gateway(scheme, lambda *_: Refusal(code))
    with make(front.address, model=NAME) as client, pytest.raises(sdk.ServableError):
        client.status()
    assert len(front.seen) == 1


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
