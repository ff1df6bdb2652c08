"""What the tests of the stack share: an engine, images, and the stack that is up."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from tests.conftest import ROOT
from tests.system.stack.stacks import Stack, run

if TYPE_CHECKING:
    from collections.abc import Iterator

PYTHON, NGINX = "python:3.11-slim-bookworm", "nginx:1.28"
PROMETHEUS = "prom/prometheus:v3.5.0"
TENSORFLOW_SERVING = "tensorflow/serving:2.20.0"
OURS = "servable/serving:0.1.0"
GATEWAY = "servable/gateway:0.1.0"
# Where no registry can be reached, a machine may bring a way to make images of the same names
# from Debian's programs.
STAND_INS = ROOT.parent / "shared" / "docker" / "stand-ins"


@pytest.fixture(scope="session")
def engine() -> None:
    """A Docker Engine that answers."""
    for command in (("docker", "info"), ("docker", "compose", "version")):
        try:
            done = run(*command)
        except FileNotFoundError:
            pytest.skip("there is no docker; tests/system/stack/engine installs it on Debian")
        if done.returncode:
            pytest.skip(f"no Docker Engine with Compose answers: {done.stderr.strip()}")


def _is_here(image: str) -> bool:
    return run("docker", "image", "inspect", image).returncode == 0


def _is_ours(image: str) -> bool:
    title = '{{index .Config.Labels "org.opencontainers.image.title"}}'
    done = run("docker", "image", "inspect", "--format", title, image)
    return done.returncode == 0 and "Servable" in done.stdout


def _provide(image: str) -> None:
    if _is_here(image) or run("docker", "pull", "--quiet", image).returncode == 0:
        return
    made = run(STAND_INS, image) if STAND_INS.exists() else None
    if made is None or made.returncode:
        said = f": {made.stderr.strip()[-300:]}" if made else ""
        pytest.skip(f"the image {image} can be neither pulled nor made{said}")


def _build(service: str) -> None:
    done = run(
        "docker", "compose", "--env-file", "/dev/null", "--file", ROOT / "docker-compose.yml",
        "--profile", "*", "build", service,
        env={**os.environ, "COMPOSE_PROJECT_NAME": "servable-test-build"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-5000:]


@pytest.fixture(scope="session")
def serving_image(engine: None) -> str:  # noqa: ARG001
    """Our image of the embedded server."""
    _provide(PYTHON)
    # What else a stack needs can be made at the same time.
    with ThreadPoolExecutor() as pool:
        others = [pool.submit(_provide, image) for image in (NGINX, PROMETHEUS)]
        _build("gateway-metrics")
        for other in others:
            other.result()
    return OURS


@pytest.fixture(scope="session")
def gateway_image(serving_image: str) -> str:  # noqa: ARG001 - which provides what it is built on
    """Our image of the gateway."""
    _build("gateway")
    return GATEWAY


@pytest.fixture(scope="session")
def images(serving_image: str, gateway_image: str) -> Iterator[None]:  # noqa: ARG001
    """All that a stack without profiles runs.

    Where TensorFlow Serving's image cannot be had, the embedded server's takes its name: it has
    the same command line, and the compose file is tested as it is.
    """
    if _is_ours(TENSORFLOW_SERVING) or (
        not _is_here(TENSORFLOW_SERVING)
        and run("docker", "pull", "--quiet", TENSORFLOW_SERVING).returncode
    ):
        assert run("docker", "tag", serving_image, TENSORFLOW_SERVING).returncode == 0
    yield
    if _is_ours(TENSORFLOW_SERVING):
        run("docker", "rmi", TENSORFLOW_SERVING)


@pytest.fixture(scope="session")
def trainer_image(engine: None) -> str:  # noqa: ARG001
    """Our image of the trainer."""
    _provide(PYTHON)
    _build("train")
    return "servable/trainer:0.1.0"


@pytest.fixture(scope="session")
def stack(images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:  # noqa: ARG001
    """The stack, up and healthy, with keys; tests leave it healthy and with version 1 stable."""
    stack = Stack(
        f"servable-test-{os.getpid()}",
        tmp_path_factory.mktemp("stack") / "stack",
        {"SERVABLE_RATE": "50", "SERVABLE_BURST": "50", "SERVABLE_MAX_BODY": "2m"},
    )
    try:
        stack.up()
        stack.made = (stack.models / "models.config").read_text()
        yield stack
    finally:
        stack.end()


@pytest.fixture
def three(stack: Stack) -> Iterator[Stack]:
    """The stack with three servers."""
    stack.up("--scale", "serving=3")
    yield stack
    stack.up("--scale", "serving=1")
