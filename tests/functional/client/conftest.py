"""Fixtures for every kind of client, and gateways that refuse or forward requests."""

from __future__ import annotations

import asyncio
import io
import shutil
import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

import pytest
import trustme
from PIL import Image
from tests.conftest import NAME, SHIPPED, serving
from tests.functional.client.gateways import GrpcGateway, HttpGateway, Refusal

from servable_client import AsyncClient, Client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import numpy as np
    from tests.conftest import RunningServer

    from servable_trainer.data.dataset import Dataset


class Blocking:
    """An AsyncClient with the interface of Client, so that one test covers both."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._client = AsyncClient(*args, **kwargs)
        self._loop = asyncio.new_event_loop()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if not callable(found):
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            answer = found(*args, **kwargs)
            if hasattr(answer, "__aiter__"):
                return self._iterate(answer)
            return self._loop.run_until_complete(answer)

        return call

    def _iterate(self, answers: Any) -> Iterator[Any]:
        try:
            while True:
                try:
                    yield self._loop.run_until_complete(anext(answers))
                except StopAsyncIteration:
                    return
        finally:
            self._loop.run_until_complete(answers.aclose())

    def __repr__(self) -> str:
        return repr(self._client)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.run_until_complete(self._client.close())
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()


KINDS: dict[str, Callable[..., Any]] = {"sync": Client, "async": Blocking}
# `Client` has two gRPC transports; these tests of failures run with the second one too.
WITHOUT_LIBCURL = {f"{kind} without libcurl": make for kind, make in KINDS.items()}
_TWICE = {"test_errors.py", "test_retry.py", "test_security.py"}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect tests that would repeat others."""

    def again(item: pytest.Item) -> bool:
        params = getattr(getattr(item, "callspec", None), "params", {})
        return params.get("make") in WITHOUT_LIBCURL and item.path.name not in _TWICE

    config.hook.pytest_deselected(items=[item for item in items if again(item)])
    items[:] = [item for item in items if not again(item)]


@pytest.fixture(params=[*KINDS, *WITHOUT_LIBCURL])
def make(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """The client factories: `Client` and `AsyncClient`, with libcurl and without."""
    if request.param in WITHOUT_LIBCURL:
        monkeypatch.setenv("SERVABLE_LIBCURL", "0")
        return WITHOUT_LIBCURL[request.param]
    return KINDS[request.param]


@pytest.fixture(params=["grpc", "http"])
def scheme(request: pytest.FixtureRequest) -> str:
    """Both protocols."""
    return str(request.param)


@pytest.fixture
def client(make: Callable[..., Any], scheme: str, server: RunningServer) -> Iterator[Any]:
    """Each kind of client, over each protocol."""
    with make(server.address(scheme), model=NAME) as client:
        yield client


@pytest.fixture
def gateway(server: RunningServer) -> Iterator[Callable[..., Any]]:
    """Start gateways in front of the server: `gateway(scheme, decide)` returns one.

    `decide(method, headers)` returns how a request is refused, or None to forward it.
    """
    running: list[Any] = []

    def start(
        scheme: str, decide: Callable[[str, dict[str, str]], Refusal | None], **kwargs: Any
    ) -> Any:
        kind = GrpcGateway if scheme.startswith("grpc") else HttpGateway
        upstream = server.port if scheme.startswith("grpc") else server.rest_port
        running.append(kind(decide, upstream, **kwargs))
        return running[-1]

    yield start
    for gateway in running:
        gateway.close()


@contextmanager
def labelled(folder: Path) -> Iterator[tuple[RunningServer, Callable[..., str]]]:
    """A server of two versions with labels, and a function for its configuration."""
    for version in ("1", "2"):
        shutil.copytree(SHIPPED, folder / NAME / version)

    def config(**labels: int) -> str:
        listed = "".join(
            f'version_labels {{ key: "{key}" value: {value} }} ' for key, value in labels.items()
        )
        return (
            f'model_config_list {{ config {{ name: "{NAME}" base_path: "{folder / NAME}" '
            f'model_platform: "tensorflow" model_version_policy {{ specific {{ versions: 1 '
            f"versions: 2 }} }} {listed} }} }}"
        )

    with serving(folder / NAME, folder / "log") as server:
        with Client(server.grpc, model=NAME) as client:
            client.reload_config(config())
            client.wait_until_available(1)
            client.wait_until_available(2)
        yield server, config


@pytest.fixture(scope="session")
def two_versions(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[RunningServer, Callable[..., str]]]:
    """A shared server of two versions; tests leave it with stable at 1 and canary at 2."""
    with labelled(tmp_path_factory.mktemp("labelled")) as (server, config):
        with Client(server.grpc, model=NAME) as client:
            client.reload_config(config(stable=1, canary=2))
        yield server, config


class Certificates:
    """A CA and certificates that it signed, as files."""

    def __init__(self, folder: Path) -> None:
        self.authority = trustme.CA()
        self.server = self.authority.issue_cert("127.0.0.1", "localhost", "models.example")
        mine = self.authority.issue_cert("client@example.org")
        self.ca = folder / "ca.pem"
        self.certificate = folder / "client.pem"
        self.key = folder / "client.key"
        self.authority.cert_pem.write_to_path(self.ca)
        self.certificate.write_bytes(b"".join(c.bytes() for c in mine.cert_chain_pems))
        mine.private_key_pem.write_to_path(self.key)

    def server_context(self, *, mutual: bool) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.server.configure_cert(context)
        if mutual:
            self.authority.configure_trust(context)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """A CA for the tests."""
    return Certificates(tmp_path_factory.mktemp("certificates"))


def as_file(picture: np.ndarray, kind: str = "PNG") -> bytes:
    """The bytes of an image file."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def boot(dataset: Dataset) -> np.ndarray:
    """The first image of the test set, an ankle boot."""
    image: np.ndarray = dataset.test.images[0]
    return image
