# Generated from _client.py by client/generate_async.py; edit that file, then: make async
"""The client for asyncio."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self, overload

from servable_client._base import BaseClient
from servable_client._wire.model_config import config_of
from servable_client.engine.core import callable_signatures, signature_in
from servable_client.engine.readiness import ready, reload, resolve, wait
from servable_client.engine.stream import OnError, astream, check
from servable_client.transport.driver import AsyncDriver
from servable_client.types.arguments import check_text

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
    """`Client` for asyncio: the same arguments, and methods to await.

    Several event loops may use it; close it in one of them. A function for `api_key` or `token`
    may be asynchronous; `on_request` and `on_response` are plain functions.

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
        """Classify an image.

        The metadata of the model is read once per version, and an image that does not fit it
        is refused before it is sent. The class names are read once per version too, by two
        small calls.

        Args:
            picture: A path, the bytes of a file, an open file or a Pillow image, of any mode and
                size; or an array uint8 of the model's own size: [height, width] or
                [height, width, 1], white on black, or of a model of colour [height, width, 3].
            version: The version to use (default: the client's).
            label: The label of the version to use (default: the client's).
            timeout: Request timeout in seconds (default: the client's).

        Raises:
            InvalidInput: It is not a valid image, or the model does not accept it.
            ServableError: Any other `ServableError` subclass.

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
        """Classify many images, in chunks, with several requests in flight.

        Where the server refuses a chunk, the client bisects it to find the invalid image, and
        the other images are classified.

        Args:
            pictures: Any iterable, including an endless one: at most `batch_size` x
                (`concurrency` + 1) images are read ahead of the answers. An array uint8
                [N, height, width] is an iterable of images.
            batch_size: Images per request.
            concurrency: Maximum number of concurrent requests.
            on_error: "raise" stops at the first image that failed, after the answers for those
                before it, with its position as the `index` of the error; "return" yields the
                error in place of the answer and continues.
            version: The version to use (default: the client's).
            label: The label of the version to use (default: the client's).
            timeout: Timeout in seconds for each request (default: the client's).

        Returns:
            The answers, in the order of the images.

        Raises:
            InvalidInput: An argument or an image is invalid.
            ServableError: Any other `ServableError` subclass.

        Example:
            >>> [answer.label async for answer in client.classify_many(["boot.png", "shirt.png"])]
            ['Ankle boot', 'Shirt']
            >>> answers = client.classify_many(["boot.png", "notes.txt"], on_error="return")
            >>> [str(answer) async for answer in answers]
            ['Ankle boot (99.6%)', 'notes.txt is not a valid image']
        """
        target = self._engine.target_of(version, label)
        check(pictures, batch_size=batch_size, concurrency=concurrency, on_error=on_error)
        self._engine.deadline(timeout)  # refuse an invalid timeout now
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
            inputs: Arrays, or values that NumPy converts to arrays, by the input names of the
                signature; text and bytes are strings. Numbers of another dtype than the
                signature's are converted where no value is lost; floats may be rounded.
            signature: The name of the signature.
            output_filter: The names of the outputs to return (default: all). REST has no filter,
                so the server sends all of them and the client drops the others.
            version: The version to use (default: the client's).
            label: The label of the version to use (default: the client's).
            timeout: Request timeout in seconds (default: the client's).

        Raises:
            InvalidInput: The model does not accept the inputs.
            ServableError: Any other `ServableError` subclass.

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
        """Call the Classify API, which takes tf.Examples.

        Args:
            examples: Dicts of feature name to value: text, bytes, a number, or a flat list or
                array of one of these.
            context: The features that all examples share.
            signature: A signature of the method `tensorflow/serving/classify`.
            version: The version to use (default: the client's).
            label: The label of the version to use (default: the client's).
            timeout: Request timeout in seconds (default: the client's).

        Returns:
            For each example its classes and scores, in the order of the model.

        Raises:
            ServableError: Any `ServableError` subclass.

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
        """List the versions of the model that the server knows, highest first.

        Args:
            timeout: Request timeout in seconds (default: the client's).

        Raises:
            ModelNotFound: The server does not know the model.
            ServableError: Any other `ServableError` subclass.

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
        """Read the signatures of the model, by name: the dtypes and shapes of inputs and outputs.

        Args:
            version: The version to describe (default: the client's).
            label: The label of the version to describe (default: the client's).
            timeout: Request timeout in seconds (default: the client's).

        Raises:
            ServableError: Any `ServableError` subclass.

        Example:
            >>> sorted(await client.metadata())
            ['classify', 'serving_bytes', 'serving_default']
        """
        target = self._engine.target_of(version, label)
        found = await self._driver.run(
            self._engine.describe(target, self._engine.deadline(timeout), fresh=True)
        )
        return callable_signatures(found)

    async def signature(
        self,
        name: str = "serving_default",
        *,
        version: int | None = None,
        label: str | None = None,
        timeout: float | None = None,
    ) -> Signature:
        """Read what a signature takes and gives; `print` shows it as a table.

        Args:
            name: The name of the signature.
            version: The version to describe (default: the client's).
            label: The label of the version to describe (default: the client's).
            timeout: Request timeout in seconds (default: the client's).

        Raises:
            InvalidInput: The model has no such signature.
            ServableError: Any other `ServableError` subclass.

        Example:
            >>> (await client.signature()).inputs["image"].shape
            (-1, 28, 28)
        """
        check_text("name", name)
        found = await self.metadata(version=version, label=label, timeout=timeout)
        return signature_in(found, name)

    async def resolve(
        self,
        *,
        version: int | None = None,
        label: str | None = None,
        timeout: float | None = None,
    ) -> int:
        """Find the version that a request would use now.

        Args:
            version: The version to resolve (default: the client's).
            label: The label of the version to resolve (default: the client's).
            timeout: Request timeout in seconds (default: the client's).

        Raises:
            ModelNotFound: There is no such model, version or label.
            ServableError: Any other `ServableError` subclass.

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
        """Whether the server is reachable and the model can serve requests now.

        Args:
            version: The version to look for (default: the client's).
            label: The label of the version to look for (default: the client's).
            timeout: Request timeout in seconds (default: the client's).

        Raises:
            ServableError: Any other failure, `AccessDenied` for example.

        Example:
            >>> await client.ready(), await client.ready(version=7)
            (True, False)
        """
        target = self._engine.target_of(version, label)
        return await self._driver.run(ready(self._engine, target, self._engine.deadline(timeout)))

    async def wait_until_available(
        self, version: int | None = None, timeout: float = 60, *, label: str | None = None
    ) -> int:
        """Wait until every reachable server, and at least one, serves a version of the model.

        Args:
            version: The version (default: the version or label of the client, else any version).
            timeout: Maximum time to wait, in seconds.
            label: Wait until this label points to a version; instead of `version`.

        Returns:
            The version; the highest one if any version will do.

        Raises:
            ServerFailed: The version failed to load; `message` contains the reason.
            DeadlineExceeded: It is not available yet.

        Example:
            >>> await client.wait_until_available(1, timeout=10)
            1
        """
        target = self._engine.target_of(version, label)
        return await self._driver.run(wait(self._engine, target, timeout))

    async def reload_config(self, config: str | Path, *, timeout: float = 60) -> None:
        """Replace the model configuration of each server.

        TensorFlow Serving accepts this over gRPC only, and loads before it responds. A server
        that polls a configuration file reverts to the file at the next poll, so update the
        file too.

        Args:
            config: The text of a ModelServerConfig, or the Path of a file that contains it.
            timeout: Timeout in seconds for each server.

        Raises:
            InvalidInput: It is not a valid ModelServerConfig, or the transport is REST.
            ServerFailed: The server rejected it, for example because of a label for a version
                that is not available, and keeps its configuration.

        Example:
            >>> await client.reload_config(Path("models.config"))
        """
        parsed = config_of(config)
        await self._driver.run(reload(self._engine, parsed, timeout))

    async def close(self) -> None:
        """Close all connections.

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
