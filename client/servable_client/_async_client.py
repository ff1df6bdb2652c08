"""The client for asyncio."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self, overload

from servable_client._base import BaseClient
from servable_client._wire.model_config import config_of
from servable_client.engine.core import callable_signatures
from servable_client.engine.readiness import ready, reload, resolve, wait
from servable_client.engine.stream import OnError, astream, check
from servable_client.transport.driver import AsyncDriver

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from numpy.typing import ArrayLike

    from servable_client._errors import ServableError
    from servable_client.types.answers import (
        Classification,
        ClassScores,
        Prediction,
        Signature,
        VersionStatus,
    )
    from servable_client.types.examples import Example
    from servable_client.types.images import Picture


class AsyncClient(BaseClient):
    """`Client` for asyncio: the same arguments and methods, to be awaited.

    It belongs to the event loop that it is used in, and is closed in it. A function for `api_key`
    or `token` may be asynchronous; `on_request` and `on_response` are plain functions.

    Example:
        >>> async def ask():
        ...     async with AsyncClient(server, model="fashion_mnist") as client:
        ...         return await client.classify("boot.png")
        >>> print(asyncio.run(ask()))
        Ankle boot (99.6%)
    """

    def _open(self) -> None:
        self._driver = AsyncDriver(self._engine)

    async def classify(
        self,
        picture: Picture,
        *,
        version: int | None = None,
        label: str | None = None,
        timeout: float | None = None,
    ) -> Classification:
        """Ask what a picture shows.

        The model's metadata are read once for each version, and what does not fit them is
        refused before it is sent; so are its class names, by two small calls.

        Args:
            picture: A path, the bytes of a file, an open file or a Pillow image, of any mode and
                size; or an array uint8 of the model's own size: [height, width] or
                [height, width, 1], white on black, or of a model of colour [height, width, 3].
            version: The version to ask; the client's own unless given.
            label: The label of the version to ask; the client's own unless given.
            timeout: Seconds; the client's own unless given.

        Raises:
            InvalidInput: It is no picture, or not one that the model takes.
            ServableError: Any other leaf of its tree; see there.

        Example:
            >>> boot = await client.classify("boot.png")
            >>> boot.label, boot.class_id, boot.version
            ('Ankle boot', 9, 1)
        """
        target = self._engine.target_of(version, label)
        return await self._driver.run(self._classifier.one(picture, target=target, timeout=timeout))

    @overload
    def classify_many(
        self,
        pictures: Iterable[Picture] | AsyncIterable[Picture],
        *,
        batch_size: int = ...,
        concurrency: int = ...,
        on_error: Literal["raise"] = ...,
        version: int | None = ...,
        label: str | None = ...,
        timeout: float | None = ...,
    ) -> AsyncIterator[Classification]: ...
    @overload
    def classify_many(
        self,
        pictures: Iterable[Picture] | AsyncIterable[Picture],
        *,
        batch_size: int = ...,
        concurrency: int = ...,
        on_error: OnError,
        version: int | None = ...,
        label: str | None = ...,
        timeout: float | None = ...,
    ) -> AsyncIterator[Classification | ServableError]: ...
    def classify_many(
        self,
        pictures: Iterable[Picture] | AsyncIterable[Picture],
        *,
        batch_size: int = 32,
        concurrency: int = 4,
        on_error: OnError = "raise",
        version: int | None = None,
        label: str | None = None,
        timeout: float | None = None,
    ) -> AsyncIterator[Classification | ServableError]:
        """Ask what many pictures show, in chunks, several under way at once.

        Where the server refuses a chunk, the picture that it is about is found by halves, and
        the others get their answers.

        Args:
            pictures: Any iterable, endless ones too: at most `batch_size` x (`concurrency` + 1)
                are taken ahead of the answers. An array uint8 [N, height, width] is one.
            batch_size: Pictures in a request.
            concurrency: Requests at once.
            on_error: "raise" ends at the first picture that failed, once those before it are
                answered, with its place as the error's `index`; "return" gives the error in the
                place of the answer and goes on.
            version: The version to ask; the client's own unless given.
            label: The label of the version to ask; the client's own unless given.
            timeout: Seconds for each request; the client's own unless given.

        Returns:
            The answers, in the order of the pictures.

        Raises:
            InvalidInput: An argument makes no sense, or a picture is none.
            ServableError: Any other leaf of its tree; see there.

        Example:
            >>> [answer.label async for answer in client.classify_many(["boot.png", "shirt.png"])]
            ['Ankle boot', 'Shirt']
            >>> answers = client.classify_many(["boot.png", "notes.txt"], on_error="return")
            >>> [str(answer) async for answer in answers]
            ['Ankle boot (99.6%)', 'notes.txt is no picture']
        """
        target = self._engine.target_of(version, label)
        check(pictures, batch_size=batch_size, concurrency=concurrency, on_error=on_error)
        self._engine.deadline(timeout)  # refuses a timeout that makes no sense, now
        return astream(
            lambda chunk: self._driver.run(
                self._classifier.chunk(chunk, target=target, timeout=timeout)
            ),
            pictures,
            batch_size=batch_size,
            concurrency=concurrency,
            on_error=on_error,
        )

    async def predict(
        self,
        inputs: Mapping[str, ArrayLike],
        *,
        signature: str = "serving_default",
        output_filter: Sequence[str] | None = None,
        version: int | None = None,
        label: str | None = None,
        timeout: float | None = None,
    ) -> Prediction:
        """Run a signature of any model.

        Args:
            inputs: Arrays, or what NumPy makes arrays of, by the names that the signature gives
                them; text and bytes are strings.
            signature: Its name.
            output_filter: The outputs wanted, by name; all unless given. Over REST, which knows
                no filter, the others are sent and dropped.
            version: The version to ask; the client's own unless given.
            label: The label of the version to ask; the client's own unless given.
            timeout: Seconds; the client's own unless given.

        Raises:
            ServableError: Any leaf of its tree; see there.

        Example:
            >>> answer = await client.predict({"image": images}, output_filter=["class_id"])
            >>> answer["class_id"]
            array([9, 2, 1])
        """
        return await self._driver.run(
            self._engine.predict(
                inputs,
                signature=signature,
                outputs=output_filter,
                target=self._engine.target_of(version, label),
                deadline=self._engine.deadline(timeout),
            )
        )

    async def classify_examples(
        self,
        examples: Sequence[Example],
        *,
        context: Example | None = None,
        signature: str = "classify",
        version: int | None = None,
        label: str | None = None,
        timeout: float | None = None,
    ) -> ClassScores:
        """Ask by the Classify API, which takes tf.Examples.

        Args:
            examples: Dicts of feature name to value: text, bytes, a number, or a flat list or
                array of one of them.
            context: The features that all examples have in common.
            signature: A signature of the method `tensorflow/serving/classify`.
            version: The version to ask; the client's own unless given.
            label: The label of the version to ask; the client's own unless given.
            timeout: Seconds; the client's own unless given.

        Returns:
            For each example its classes and scores, in the order in which the model gives them.

        Raises:
            ServableError: Any leaf of its tree; see there.

        Example:
            >>> answer = await client.classify_examples([{"image/encoded": png}])
            >>> answer[0][0].label
            'Ankle boot'
        """
        return await self._driver.run(
            self._engine.classify_examples(
                examples,
                context=context,
                signature=signature,
                target=self._engine.target_of(version, label),
                deadline=self._engine.deadline(timeout),
            )
        )

    async def status(self, *, timeout: float | None = None) -> list[VersionStatus]:
        """The model's versions that the server knows, highest first.

        Raises:
            ModelNotFound: It knows none.
            ServableError: Any other leaf of its tree; see there.

        Example:
            >>> [(version.version, version.state) for version in await client.status()]
            [(1, 'AVAILABLE')]
        """
        return await self._driver.run(
            self._engine.status(self._engine.target, self._engine.deadline(timeout))
        )

    async def metadata(
        self,
        *,
        version: int | None = None,
        label: str | None = None,
        timeout: float | None = None,
    ) -> dict[str, Signature]:
        """The model's signatures, by name.

        Raises:
            ServableError: Any leaf of its tree; see there.

        Example:
            >>> sorted(await client.metadata())
            ['classify', 'serving_bytes', 'serving_default']
        """
        target = self._engine.target_of(version, label)
        found = await self._driver.run(
            self._engine.describe(target, self._engine.deadline(timeout), fresh=True)
        )
        return callable_signatures(found)

    async def resolve(
        self,
        *,
        version: int | None = None,
        label: str | None = None,
        timeout: float | None = None,
    ) -> int:
        """The version that would answer now.

        Raises:
            ModelNotFound: None would: there is no such model, version or label.
            ServableError: Any other leaf of its tree; see there.

        Example:
            >>> await client.resolve()
            1
        """
        target = self._engine.target_of(version, label)
        return await self._driver.run(resolve(self._engine, target, self._engine.deadline(timeout)))

    async def ready(
        self,
        *,
        version: int | None = None,
        label: str | None = None,
        timeout: float | None = None,
    ) -> bool:
        """Whether the server can be reached and would answer a question to the model now.

        Raises:
            ServableError: It can be reached, and something else is wrong: AccessDenied, say.

        Example:
            >>> await client.ready(), await client.ready(version=7)
            (True, False)
        """
        target = self._engine.target_of(version, label)
        return await self._driver.run(ready(self._engine, target, self._engine.deadline(timeout)))

    async def wait_until_available(
        self, version: int | None = None, timeout: float = 60, *, label: str | None = None
    ) -> int:
        """Wait until every server that answers, and at least one, serves a version of the model.

        Args:
            version: The version; the client's own version or label unless given, any where it
                has none.
            timeout: Seconds to wait in all.
            label: Wait until this label stands for a version, in place of a version.

        Returns:
            The version; the highest, where any will do.

        Raises:
            ServerFailed: The version failed to load; `message` holds the server's reason.
            DeadlineExceeded: It is not available yet.

        Example:
            >>> await client.wait_until_available(1, timeout=10)
            1
        """
        target = self._engine.target_of(version, label)
        return await self._driver.run(wait(self._engine, target, timeout))

    async def reload_config(self, config: str | Path, *, timeout: float = 60) -> None:
        """Have each server serve what a configuration says, in place of what it did.

        TensorFlow Serving takes it over gRPC alone, and loads before it answers. A server that
        polls a file goes back to that file's content within its interval: write the file too.

        Args:
            config: The text of a ModelServerConfig, or a Path to a file with it.
            timeout: Seconds for each server.

        Raises:
            InvalidInput: It is no ModelServerConfig, or the transport is REST.
            ServerFailed: The server refused it: a label for a version that is not available,
                say. It goes on as before.

        Example:
            >>> await client.reload_config(Path("models.config"))
        """
        parsed = config_of(config)
        await self._driver.run(reload(self._engine, parsed, timeout))

    async def close(self) -> None:
        """Hang up.

        Example:
            >>> client = AsyncClient(server, model="fashion_mnist")
            >>> await client.close()
        """
        await self._driver.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()
