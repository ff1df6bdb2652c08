"""Releases at three servers behind a gateway, one of which is killed."""

from __future__ import annotations

import shutil
import threading
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.conftest import NAME, RunningServer, serving
from tests.functional.gateway.gateway import gateway, shared_port
from tests.functional.serving.calls import eventually
from tests.functional.serving.releases import FLAGS, Stage
from tests.reliability.callers import EVERY_KIND, PATIENT, Callers, Question
from tests.reliability.table import Row, as_property
from tests.reliability.test_storage import publish

from servable_client import Client
from servable_serving.release.promote import promote, roll_back
from servable_serving.release.steps import Steps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

HOSTS = ("127.0.0.1", "127.0.0.2", "127.0.0.3")
pytestmark = pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")


@contextmanager
def released_at_three(folder: Path, other: Path) -> Iterator[tuple[Stage, list[RunningServer]]]:
    """A repository of the shipped model, three servers of it, and a gateway before them."""
    root = folder / "models"
    publish(root)
    port, rest_port = shared_port(*HOSTS), shared_port(*HOSTS)
    with ExitStack() as stack:
        servers = [
            stack.enter_context(
                serving(
                    None, folder / f"{host}.log", f"--host={host}", f"--port={port}",
                    f"--rest_api_port={rest_port}", f"--model_config_file={root}/models.config",
                    f"--model_repository_path={root}", *FLAGS, wait=False,
                )
            )
            for host in HOSTS
        ]  # fmt: skip
        for host, server in zip(HOSTS, servers, strict=True):
            server.port, server.rest_port = port, rest_port
            wait_for(host, rest_port)
        running = stack.enter_context(
            gateway(
                folder / "gateway", grpc_port=port, rest_port=rest_port, models=NAME,
                SERVABLE_UPSTREAM=",".join(HOSTS), SERVABLE_MODELS_ROOT=root,
            )
        )  # fmt: skip
        ports = running.ports
        behind = replace(servers[0], port=ports["grpc"], rest_port=ports["http"])
        yield Stage(behind, root, NAME, [other]), servers


def wait_for(host: str, rest_port: int) -> None:
    with Client(f"http://{host}:{rest_port}", model=NAME) as client:
        client.wait_until_available(timeout=300)


@pytest.fixture
def at_three(tmp_path: Path, other: Path) -> Iterator[tuple[Stage, list[RunningServer]]]:
    with released_at_three(tmp_path, other) as made:
        yield made


def release(stage: Stage, question: Question, other: Path) -> None:
    """Push a version, make it stable, and go back and forth."""
    next_version = max(stage.repository.versions()) + 1
    question.expect(next_version, other)
    before = stage.labels()["stable"]
    version = stage.push(0)
    assert version == next_version
    with stage.deployment() as deployment:
        promote(version, deployment, Steps(None))
        assert roll_back(deployment, Steps(None)) == before
        promote(version, deployment, Steps(None))


def test_releases_reach_all_of_them(
    at_three: tuple[Stage, list[RunningServer]],
    question: Question,
    other: Path,
    pytestconfig: pytest.Config,
    record_property: Callable[[str, object], None],
) -> None:
    stage, servers = at_three
    addresses = {"grpc": stage.server.grpc, "http": stage.server.http}
    rounds = pytestconfig.getoption("reliability_rounds")
    with Callers(addresses, question, deadline=PATIENT, kinds=EVERY_KIND) as callers:
        for _ in range(2 * rounds):
            release(stage, question, other)
        killed = servers[1]
        for _ in range(rounds):
            # In the middle of a release, then back at once, as Docker and Kubernetes do it.
            timer = threading.Timer(0.3, killed.process.kill)
            timer.start()
            release(stage, question, other)
            timer.join()
            killed.restart()
            release(stage, question, other)
            wait_for(HOSTS[1], killed.rest_port)
        last = stage.labels()["stable"]
        eventually(lambda: callers.each(lambda call: call.version == last))
    failed = [call for call in callers.calls if not call.is_right]
    row = Row(
        fault=f"one of three servers killed during {4 * rounds} releases",
        calls=len(callers.calls),
        wrong=sum(call.wrong for call in failed),
        failed=sum(call.error is not None for call in failed),
        late=0, back=0, memory=0, threads=0, descriptors=0,
    )  # fmt: skip
    record_property(*as_property(row))
    assert not failed, failed[:3]
    assert not list(stage.path.glob(".rejected/*"))
