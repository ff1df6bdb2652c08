"""Callers of a server without a break, by each kind of client, and what came of each call."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from PIL import Image
from tests.conftest import NAME, SHIPPED
from tests.functional.client.conftest import Blocking

from servable_client import Client
from servable_client.transport.grpc import AsyncGrpcChannel, GrpcChannel
from servable_client.transport.http import AsyncHttpPool, HttpPool
from servable_serving.repository.manifest import manifest_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping
    from pathlib import Path

    from servable_client import Prediction

# Of each call, in seconds; and of those that must succeed, however busy the machine is.
DEADLINE, PATIENT = 2.0, 60.0
# Between the calls of one caller, so that they do not load the machine.
_PAUSE = 0.05
# Golden probabilities were computed on another processor.
_TOLERANCE = 0.02


def _without_libcurl(address: str, **options: Any) -> Client:
    """A client as it is where libcurl cannot be used; the variable would affect all threads."""
    client = Client(address, **options)
    (endpoint,) = client._engine.endpoints
    tls = client._engine.tls if endpoint.secure else None
    client._driver._connections[endpoint] = (
        GrpcChannel(endpoint, tls, None, trust_env=False)
        if endpoint.grpc
        else HttpPool(endpoint, tls, None)
    )
    return client


def _async_without_libcurl(address: str, **options: Any) -> Blocking:
    """Likewise for asyncio."""
    client = Blocking(address, **options)
    engine, driver = client._client._engine, client._client._driver
    (endpoint,) = engine.endpoints
    tls = engine.tls if endpoint.secure else None
    driver._connections[client._loop] = {
        endpoint: AsyncGrpcChannel(endpoint, tls, None, trust_env=False)
        if endpoint.grpc
        else AsyncHttpPool(endpoint, tls, None)
    }
    return client


# Each kind: its protocol, and what makes a client. Each has another transport.
KINDS: dict[str, tuple[str, Callable[..., Any]]] = {
    "gRPC": ("grpc", Client),
    "gRPC over grpcio": ("grpc", _without_libcurl),
    "gRPC, async": ("grpc", Blocking),
    "REST": ("http", Client),
    "REST over httpcore": ("http", _without_libcurl),
    "REST, async": ("http", Blocking),
}
# Those whose connections are handled by other code.
EVERY_KIND: dict[str, tuple[str, Callable[..., Any]]] = {
    **KINDS,
    "gRPC over grpcio, async": ("grpc", _async_without_libcurl),
    "REST over httpcore, async": ("http", _async_without_libcurl),
}


@dataclass
class Question:
    """The golden images of the shipped model, and what each version answers.

    Attributes:
        images: Images as uint8 [n, 28, 28].
        answers: By version, the probabilities, [n, 10].
    """

    images: np.ndarray
    answers: dict[int, np.ndarray] = field(default_factory=dict)

    @classmethod
    def of_shipped(cls) -> Question:
        """The question, with the answers of the shipped model as version 1."""
        golden = manifest_of(SHIPPED)["golden"]
        images = [Image.open(io.BytesIO(base64.b64decode(one["png"]))) for one in golden]
        question = cls(np.stack([np.asarray(image) for image in images]))
        question.answers[1] = np.array([one["probabilities"] for one in golden])
        return question

    def expect(self, version: int, candidate: Path) -> None:
        """Expect of a version what a candidate answers that says the same of every image."""
        golden = json.loads((candidate / "assets.extra/manifest.json").read_text())["golden"]
        row = np.array(golden[0]["probabilities"])
        self.answers[version] = np.tile(row, [len(self.images), 1])

    def is_right(self, answer: Prediction) -> bool:
        """Whether an answer is that of the version that it names, or of any if it names none."""
        found = answer["probabilities"]
        versions = list(self.answers) if answer.version is None else [answer.version]
        candidates = [self.answers[version] for version in versions if version in self.answers]
        return any(
            found.shape == expected.shape and bool(np.abs(found - expected).max() <= _TOLERANCE)
            for expected in candidates
        )


@dataclass(frozen=True)
class Call:
    """A call that has ended; times by time.monotonic."""

    kind: str
    began: float
    ended: float
    version: int | None = None
    error: BaseException | None = None
    wrong: bool = False

    @property
    def seconds(self) -> float:
        return self.ended - self.began

    @property
    def is_right(self) -> bool:
        return self.error is None and not self.wrong


class Callers:
    """A thread for each kind of client, which calls until the end of the block.

    Args:
        addresses: The server's address for "grpc" and for "http".
        question: What to ask.
        deadline: Of each call, in seconds.
        fresh: Whether each call has a client, and so a connection, of its own.
        kinds: The kinds of clients, as in `KINDS`.
        options: Options of the clients.
    """

    def __init__(
        self,
        addresses: Mapping[str, str],
        question: Question,
        *,
        deadline: float = DEADLINE,
        fresh: bool = False,
        kinds: Mapping[str, tuple[str, Callable[..., Any]]] = KINDS,
        **options: Any,
    ) -> None:
        self.deadline = deadline
        self.kinds = kinds
        self.calls: list[Call] = []
        self._addresses, self._question, self._fresh = addresses, question, fresh
        self._options = {"model": NAME, "timeout": deadline, **options}
        self._ended = threading.Event()
        self._clients = {kind: self._client(kind) for kind in kinds}
        self._threads = [
            threading.Thread(target=self._call_on, args=(kind, client), name=kind)
            for kind, client in self._clients.items()
        ]

    def connect(self, at_once: int = 8) -> None:
        """Make several calls at a time with each client, so that it has idle connections."""
        arguments: dict[str, Any] = {
            "inputs": {"image": self._question.images},
            "output_filter": ["probabilities"],
            "timeout": PATIENT,
        }
        for client in self._clients.values():
            if isinstance(client, Blocking):
                calls = (client._client.predict(**arguments) for _ in range(at_once))
                answers = client._loop.run_until_complete(_all(calls))
            else:
                with ThreadPoolExecutor(at_once) as crowd:
                    begun = [crowd.submit(client.predict, **arguments) for _ in range(at_once)]
                answers = [call.result() for call in begun]
            assert all(map(self._question.is_right, answers))

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _client(self, kind: str) -> Any:
        scheme, make = self.kinds[kind]
        return make(self._addresses[scheme], **self._options)

    def _call_on(self, kind: str, client: Any) -> None:
        while not self._ended.wait(_PAUSE):
            with client if self._fresh else nullcontext(client) as one:
                self.calls.append(self._call(kind, one))
            if self._fresh:
                client = self._client(kind)
        with client:
            pass

    def _call(self, kind: str, client: Any) -> Call:
        began = time.monotonic()
        try:
            answer = client.predict(
                {"image": self._question.images}, output_filter=["probabilities"]
            )
        except Exception as error:  # noqa: BLE001
            return Call(kind, began, time.monotonic(), error=error)
        ended = time.monotonic()
        return Call(kind, began, ended, answer.version, wrong=not self._question.is_right(answer))

    def each(self, condition: Callable[[Call], bool]) -> bool:
        """Whether each kind of caller has had a call that meets a condition."""
        return {call.kind for call in list(self.calls) if condition(call)} == set(self.kinds)


async def _all(calls: Iterable[Awaitable[Prediction]]) -> list[Prediction]:
    return await asyncio.gather(*calls)
