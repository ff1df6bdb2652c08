"""Classification of a stream of images: in chunks, concurrently, in order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

from servable_client._errors import InvalidInput, ServableError
from servable_client.types.arguments import as_integer, refuse, shown

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from servable_client.types.answers import Classification
    from servable_client.types.images import Picture

OnError: TypeAlias = Literal["raise", "return"]
Answers: TypeAlias = "list[Classification | ServableError]"

_T = TypeVar("_T")

_MAX_CONCURRENCY = 1000


def check(images: object, *, batch_size: int, concurrency: int, on_error: str) -> None:
    """Check the arguments before anything is sent.

    Raises:
        InvalidInput: One is invalid.
    """
    if isinstance(images, str | bytes) or not isinstance(images, Iterable | AsyncIterable):
        raise InvalidInput(
            f"pictures must be an iterable of images, got {shown(images)}",
            hint="pass a list or any other iterable; use `classify` for one image",
        )
    as_integer("batch_size", batch_size, lowest=1)
    as_integer("concurrency", concurrency, lowest=1, highest=_MAX_CONCURRENCY)
    if on_error not in ("raise", "return"):
        refuse("on_error", '"raise" or "return"', on_error)


class _Chunks:
    """The chunks of an iterable; its own failure is kept until its turn comes."""

    def __init__(self, images: Iterable[Picture], size: int) -> None:
        self._images = iter(images)
        self._size = size
        self.failure: BaseException | None = None
        self.ended = False

    def next(self) -> list[Picture]:
        chunk: list[Picture] = []
        while len(chunk) < self._size and not self.ended:
            try:
                chunk.append(next(self._images))
            except StopIteration:
                self.ended = True
            except Exception as error:  # noqa: BLE001
                # The images before it are answered first.
                self.failure, self.ended = error, True
        return chunk


def stream(
    send: Callable[[list[Picture]], Answers],
    images: Iterable[Picture],
    *,
    batch_size: int,
    concurrency: int,
    on_error: OnError,
) -> Iterator[Any]:
    """Send chunks from threads; at most `concurrency` + 1 chunks are read ahead."""
    chunks = _Chunks(images, batch_size)
    in_flight: deque[Future[Answers]] = deque()
    index = 0
    pool = ThreadPoolExecutor(concurrency, thread_name_prefix="servable")

    def top_up() -> None:
        while len(in_flight) < concurrency and (chunk := chunks.next()):
            in_flight.append(pool.submit(send, chunk))

    try:
        top_up()
        while in_flight:
            answers = in_flight.popleft().result()
            top_up()
            for answer in answers:
                yield _raise_or_return(answer, index, on_error)
                index += 1
        if chunks.failure is not None:
            raise chunks.failure
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


async def astream(
    send: Callable[[list[Picture]], Awaitable[Answers]],
    images: Iterable[Picture] | AsyncIterable[Picture],
    *,
    batch_size: int,
    concurrency: int,
    on_error: OnError,
) -> AsyncIterator[Any]:
    """Like `stream`, with tasks in place of threads."""
    chunks = (
        _AsyncChunks(images, batch_size)
        if isinstance(images, AsyncIterable)
        else _Chunks(images, batch_size)
    )
    in_flight: deque[asyncio.Future[Answers]] = deque()
    index = 0

    async def top_up() -> None:
        while len(in_flight) < concurrency:
            found = chunks.next()
            chunk = found if isinstance(found, list) else await found
            if not chunk:
                break
            in_flight.append(asyncio.ensure_future(send(chunk)))

    try:
        await top_up()
        while in_flight:
            answers = await in_flight[0]
            in_flight.popleft()
            await top_up()
            for answer in answers:
                yield _raise_or_return(answer, index, on_error)
                index += 1
        if chunks.failure is not None:
            raise chunks.failure
    finally:
        for task in in_flight:
            task.cancel()
        await asyncio.gather(*in_flight, return_exceptions=True)


class _AsyncChunks:
    """The chunks of an asynchronous iterable."""

    def __init__(self, images: AsyncIterable[Picture], size: int) -> None:
        self._images = aiter(images)
        self._size = size
        self.failure: BaseException | None = None
        self.ended = False

    async def next(self) -> list[Picture]:
        chunk: list[Picture] = []
        while len(chunk) < self._size and not self.ended:
            try:
                chunk.append(await anext(self._images))
            except StopAsyncIteration:
                self.ended = True
            except Exception as error:  # noqa: BLE001
                self.failure, self.ended = error, True
        return chunk


def _raise_or_return(answer: _T, index: int, on_error: str) -> _T:
    if isinstance(answer, ServableError) and on_error == "raise":
        answer.index = index
        raise answer
    return answer
