"""Images in, answers out: chunks, order, and errors in their place."""

from __future__ import annotations

import asyncio
import itertools
import threading
from typing import TYPE_CHECKING, Any

import pytest

from servable_client import InvalidInput, ServerFailed
from servable_client.engine.stream import astream, check, stream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator


class Sender:
    """Answers each item by itself; some fail. Records the chunks it got."""

    def __init__(self, *bad: Any) -> None:
        self.bad = bad
        self.chunks: list[list[Any]] = []
        self._lock = threading.Lock()

    def __call__(self, chunk: list[Any]) -> list[Any]:
        with self._lock:
            self.chunks.append(chunk)
        return [ServerFailed(f"bad {item}") if item in self.bad else item for item in chunk]

    async def send(self, chunk: list[Any]) -> list[Any]:
        return self(chunk)


def run(
    send: Sender,
    items: Iterable[Any],
    *,
    batch_size: int = 2,
    concurrency: int = 2,
    on_error: Any = "raise",
) -> Iterator[Any]:
    return stream(send, items, batch_size=batch_size, concurrency=concurrency, on_error=on_error)


async def arun(
    send: Sender,
    items: Any,
    *,
    batch_size: int = 2,
    concurrency: int = 2,
    on_error: Any = "raise",
) -> list[Any]:
    answers = astream(
        send.send, items, batch_size=batch_size, concurrency=concurrency, on_error=on_error
    )
    return [answer async for answer in answers]


async def slowly(items: Iterable[Any]) -> AsyncIterator[Any]:
    for item in items:
        await asyncio.sleep(0)
        yield item


class Broken(Exception):
    """An iterable's own failure."""


def breaking(count: int) -> Iterator[int]:
    yield from range(count)
    raise Broken


async def abreaking(count: int) -> AsyncIterator[Any]:
    for item in range(count):
        yield item
    raise Broken


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7])
def test_answers_come_in_order(count: int) -> None:
    assert list(run(Sender(), range(count))) == list(range(count))


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7])
def test_answers_of_tasks_come_in_order(count: int) -> None:
    assert asyncio.run(arun(Sender(), range(count))) == list(range(count))


@pytest.mark.parametrize("count", [0, 1, 5])
def test_an_asynchronous_iterable_is_taken_too(count: int) -> None:
    assert asyncio.run(arun(Sender(), slowly(range(count)))) == list(range(count))


def test_chunks_have_the_size_asked_for() -> None:
    sender = Sender()
    list(run(sender, range(7), batch_size=3))
    assert sorted(sender.chunks) == [[0, 1, 2], [3, 4, 5], [6]]


def test_an_endless_iterable_is_taken_a_little_ahead() -> None:
    taken: list[int] = []

    def endless() -> Iterator[int]:
        for item in itertools.count():
            taken.append(item)
            yield item

    answers = run(Sender(), endless(), batch_size=2, concurrency=3)
    assert [next(answers) for _ in range(3)] == [0, 1, 2]
    answers.close()  # type: ignore[attr-defined]
    assert len(taken) <= 2 * (3 + 1) + 2


def test_an_error_is_raised_with_its_index() -> None:
    answers = run(Sender(3), range(6))
    assert [next(answers) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ServerFailed) as caught:
        next(answers)
    assert caught.value.index == 3


def test_an_error_of_a_task_is_raised_with_its_index() -> None:
    with pytest.raises(ServerFailed) as caught:
        asyncio.run(arun(Sender(3), range(6)))
    assert caught.value.index == 3


def test_an_error_may_be_returned_in_its_place() -> None:
    found = list(run(Sender(3), range(6), on_error="return"))
    assert [isinstance(answer, ServerFailed) for answer in found] == [
        False,
        False,
        False,
        True,
        False,
        False,
    ]


def test_an_error_of_a_task_may_be_returned_in_its_place() -> None:
    found = asyncio.run(arun(Sender(1), range(3), on_error="return"))
    assert isinstance(found[1], ServerFailed)


def test_what_came_before_a_failing_iterable_is_answered_first() -> None:
    answers = run(Sender(), breaking(3))
    assert [next(answers) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(Broken):
        next(answers)


def test_a_failing_asynchronous_iterable_fails_last() -> None:
    seen: list[int] = []

    async def collect() -> None:
        answers = astream(
            Sender().send, abreaking(3), batch_size=2, concurrency=2, on_error="raise"
        )
        async for answer in answers:
            seen.append(answer)  # noqa: PERF401  # what came before the failure stays

    with pytest.raises(Broken):
        asyncio.run(collect())
    assert seen == [0, 1, 2]


def test_leaving_early_cancels_what_is_in_progress() -> None:
    cancelled = 0

    async def send(chunk: list[Any]) -> list[Any]:
        nonlocal cancelled
        if chunk == [0]:
            return [0]
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled += 1
            raise
        return []

    async def leave() -> None:
        items: list[Any] = list(range(9))
        answers = astream(send, items, batch_size=1, concurrency=3, on_error="raise")
        async for _ in answers:
            await asyncio.sleep(0)
            break
        await answers.aclose()  # type: ignore[attr-defined]

    asyncio.run(leave())
    assert cancelled == 3


@pytest.mark.parametrize(
    ("pictures", "options"),
    [
        ("boot.png", {}),
        (b"bytes", {}),
        (7, {}),
        ([], {"batch_size": 0}),
        ([], {"concurrency": 0}),
        ([], {"concurrency": 1001}),
        ([], {"on_error": "ignore"}),
    ],
    ids=str,
)
def test_invalid_arguments_are_refused(pictures: Any, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        check(pictures, **{"batch_size": 1, "concurrency": 1, "on_error": "raise", **options})


@pytest.mark.parametrize("on_error", ["raise", "return"])
def test_valid_arguments_are_accepted(on_error: str) -> None:
    check([], batch_size=1, concurrency=1000, on_error=on_error)
