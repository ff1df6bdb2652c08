"""A user's program that calls everything public; `test_typing.py` checks its types and runs it.

It has no annotation that a user would not write: what the client returns must be known.
"""

from __future__ import annotations

import asyncio
import copy
import os
import pickle
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from servable_client import (
    TLS,
    AccessDenied,
    AsyncClient,
    Classification,
    ClassScores,
    Client,
    ConnectionFailed,
    DeadlineExceeded,
    Example,
    InvalidInput,
    ModelNotFound,
    NotReady,
    Picture,
    Prediction,
    RequestEvent,
    ResponseEvent,
    Retry,
    Score,
    ServableError,
    ServerBusy,
    ServerFailed,
    Signature,
    Split,
    TensorSpec,
    VersionStatus,
    serialize_example,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from numpy.typing import NDArray

events: list[str] = []


def before(event: RequestEvent) -> None:
    limits: tuple[int, float] = (event.attempt, event.timeout)
    events.append(f"{event.method} {event.endpoint} {event.model} {event.signature} {limits}")


def after(event: ResponseEvent) -> None:
    events.append(f"{event.request.method} {event.code} {event.elapsed:.3f}")


async def current_token() -> str:
    await asyncio.sleep(0)
    return "token"


def user() -> str:
    return "user 17"


def describe(error: ServableError) -> str:
    """Each error, by its class and attributes."""
    parts: list[str | float | None] = [error.hint, error.endpoint, error.model, error.code]
    parts += [error.retry_after, error.index]
    match error:
        case InvalidInput() | ModelNotFound() | NotReady():
            kind = "input"
        case ServerBusy() | DeadlineExceeded() | ConnectionFailed():
            kind = "later"
        case AccessDenied() | ServerFailed():
            kind = "never"
        case _:
            kind = "other"
    return f"{kind}: {error.message} {error.reason} {error.unreachable} {parts}"


def show_signature(signature: Signature) -> list[str]:
    specs: dict[str, TensorSpec] = signature.inputs | signature.outputs
    return [
        f"{name} {spec.dtype} {spec.plain_dtype} {spec.plain_shape} {spec.shape} {signature.method}"
        for name, spec in specs.items()
    ]


def show_statuses(statuses: list[VersionStatus]) -> list[tuple[int, str, str, str]]:
    return [(v.version, v.state, v.error_code, v.error_message) for v in statuses]


def show_classification(answer: Classification) -> tuple[str, int, float, float, int | None]:
    best: Score = answer.top(1)[0]
    assert best.label == answer.label
    assert best.class_id == answer.class_id
    assert answer.labels[answer.class_id] == answer.label
    row: NDArray[np.float32] = answer.probabilities
    return best.label, answer.class_id, float(row.max()), answer.elapsed, answer.version


def show_prediction(answer: Prediction) -> dict[str, tuple[int, ...]]:
    total = sum(array.size for array in answer.outputs.values())
    assert total == sum(answer[name].size for name in answer)
    assert answer.version is not None
    return {name: array.shape for name, array in answer.items()}


def show_scores(answer: ClassScores) -> list[str]:
    return [f"{row[0].label} {row[0].score:.2f} {answer.version}" for row in answer.results]


def images(picture: Picture, count: int) -> Iterator[Picture]:
    for _ in range(count):
        yield picture


def use(server: str, boot: Path, config: str) -> None:
    black = np.zeros([28, 28], np.uint8)
    with Client(
        [server, server],
        model="fashion_mnist",
        timeout=30,
        retry=Retry(attempts=4, initial=0.1, maximum=1.0, budget=20),
        api_key=partial(os.getenv, "HOME"),
        token=lambda: "token",
        plaintext_credentials=False,
        trust_env=False,
        on_request=before,
        on_response=after,
        pickle_secrets=False,
    ) as client:
        version: int = client.wait_until_available(timeout=30)
        assert client.ready()
        assert client.ready(version=version)
        assert client.resolve() == version
        assert client.endpoint == client.endpoints[0]

        pictures: list[Picture] = [str(boot), boot, boot.read_bytes(), Image.open(boot), black]
        for picture in pictures:
            show_classification(client.classify(picture, timeout=10))
        with boot.open("rb") as file:
            show_classification(client.classify(file, version=version))
        for answer in client.classify_many(pictures, batch_size=2, concurrency=2):
            show_classification(answer)
        for found in client.classify_many(images("missing.png", 2), on_error="return"):
            assert isinstance(found, ServableError)
            events.append(describe(found))

        show_prediction(client.predict({"image": np.stack([black, black])}))
        show_prediction(client.predict({"image": [black]}, output_filter=["class_id"]))
        example: Example = {"image/encoded": boot.read_bytes()}
        show_scores(client.classify_examples([example, {"image/encoded": boot.read_bytes()}]))
        serialized: bytes = serialize_example(example)
        assert boot.read_bytes() in serialized

        show_statuses(client.status())
        for signature in client.metadata().values():
            show_signature(signature)
        show_signature(client.signature("classify", version=version))
        if server.startswith("grpc"):
            client.reload_config(config)
            client.wait_until_available(version)

        twin: Client = copy.deepcopy(client)
        twin.close()
        try:
            pickle.dumps(client)
        except InvalidInput as error:
            events.append(describe(error))
        try:
            client.classify(boot, label="nowhere")
        except LookupError as error:
            events.append(str(error))

    with Client(server, model="fashion_mnist", split=Split({"canary": 0.5}, key=user)) as client:
        show_classification(client.classify(boot, version=1))
    with Client(server, model="fashion_mnist", split={"canary": 0.5}, label="stable") as client:
        show_classification(client.classify(boot, version=1))
    try:
        Client("grpcs://localhost", model="m", tls=TLS(ca="missing.pem"), proxy="http://proxy:3128")
    except ValueError as error:
        events.append(str(error))


async def use_async(server: str, boot: Path, config: str) -> None:
    async def arriving() -> AsyncIterator[Picture]:
        for picture in images(boot, 3):
            await asyncio.sleep(0)
            yield picture

    async with AsyncClient(
        server, model="fashion_mnist", timeout=30, token=current_token, on_response=after
    ) as client:
        version: int = await client.wait_until_available(1)
        assert await client.ready()
        assert await client.resolve(version=version) == version
        both = await asyncio.gather(client.classify(boot), client.classify(boot.read_bytes()))
        for answer in both:
            show_classification(answer)
        async for answer in client.classify_many(arriving(), batch_size=1):
            show_classification(answer)
        async for found in client.classify_many(["missing.png"], on_error="return"):
            assert isinstance(found, ServableError)
        show_prediction(await client.predict({"image": np.zeros([1, 28, 28], np.uint8)}))
        show_scores(await client.classify_examples([{"image/encoded": boot.read_bytes()}]))
        show_statuses(await client.status())
        for signature in (await client.metadata()).values():
            show_signature(signature)
        show_signature(await client.signature())
        if server.startswith("grpc"):
            await client.reload_config(config)
            await client.wait_until_available(version)
        twin: AsyncClient = copy.copy(client)
        await twin.close()
        try:
            await client.predict({"image": "text"})
        except ServableError as error:
            events.append(describe(error))


def main() -> None:
    server, boot, config = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    use(server, boot, config)
    asyncio.run(use_async(server, boot, config))
    sys.stdout.write(f"{len(events)} events\n")


if __name__ == "__main__":
    main()
