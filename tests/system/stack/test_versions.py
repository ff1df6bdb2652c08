"""Versions under the stack: what is pushed on the host, what a restart and a kill leave."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
import requests
from tests.conftest import NAME
from tests.forked import servable
from tests.system.stack.stacks import ADMIN, KEY, Stack, eventually

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1800)]

BLANK = np.zeros((28, 28), np.uint8)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A candidate that has learnt nothing and is loaded at once."""
    import keras

    from servable_serving.exporter.export import export
    from servable_trainer.data.fashion_mnist import LABELS

    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((28, 28)),
            keras.layers.Flatten(),
            keras.layers.Dense(len(LABELS), activation="softmax"),
        ]
    )
    target = tmp_path_factory.mktemp("small") / "candidate"
    examples = np.random.default_rng(0).integers(0, 256, (32, 28, 28), np.uint8)
    export(
        model, target, name=NAME, labels=LABELS, input_range="0..255", examples=examples,
        about={"metrics": {}},
    )  # fmt: skip
    return target


def available(stack: Stack, version: int) -> bool:
    answer = requests.get(
        f"{stack.https}/v1/models/{NAME}/versions/{version}",
        headers={"x-api-key": KEY},
        verify=str(stack.ca),
        timeout=60,
    )
    return '"AVAILABLE"' in answer.text


def seconds_until_served(stack: Stack, candidate: Path) -> tuple[int, float]:
    """Push as a user does, on the host; the version, and how long after its rename it answered."""
    folder = stack.models / NAME
    version = 1 + max(int(path.name) for path in folder.iterdir() if path.name.isdigit())
    times: dict[str, float] = {}

    def watch() -> None:
        eventually((folder / str(version)).exists, why="the push")
        times["renamed"] = time.monotonic()
        eventually(lambda: available(stack, version), why="the version")
        times["served"] = time.monotonic()

    watcher = threading.Thread(target=watch)
    watcher.start()
    gates = [
        word
        for gate in ("trial", "accuracy", "latency", "size")
        for word in ("--skip", gate, "--why", "it has learnt nothing, and takes little time")
    ]
    done = servable(
        "push", candidate, "--repository", folder, *gates, "--server", stack.grpcs,
        "--api-key", ADMIN, "--ca", stack.ca, "--timeout", 600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    watcher.join()
    return version, times["served"] - times["renamed"]


def test_a_version_pushed_on_the_host_is_served(stack: Stack, small: Path) -> None:
    version, seconds = seconds_until_served(stack, small)
    # How long depends on what else the machine does; `pytest -rP` shows it.
    print(f"served {seconds:.1f} s after its rename")  # noqa: T201
    with stack.client(label="canary") as client:
        assert client.classify(BLANK).version == version
    with stack.client(label="stable") as client:
        assert client.classify(BLANK).version == 1


def test_a_restart_keeps_the_labels(stack: Stack) -> None:
    def versions() -> dict[str, int]:
        found: dict[str, int] = {}
        for label in ("stable", "canary"):
            with stack.client(label=label) as client:
                version = client.classify(BLANK).version
            assert version is not None
            found[label] = version
        return found

    before = versions()
    assert before["canary"] > before["stable"]
    stack("restart", "serving")
    eventually(
        lambda: stack.containers("serving")[0]["State"]["Health"]["Status"] == "healthy",
        why="health after the restart",
    )
    assert versions() == before


def test_a_server_that_is_killed_comes_back_and_a_patient_caller_notices_nothing(
    stack: Stack,
) -> None:
    hidden = False
    for _ in range(3):
        (before,) = stack.containers("serving")
        with stack.client(label="stable", timeout=30) as client:
            client.classify(BLANK)
            # All that runs in the container, save its init and the shell that kills.
            stack("exec", "-T", "serving", "bash", "-c", "kill -9 -1", check=False)
            # Where it is not, the machine was too busy to start a server within 30 s.
            with contextlib.suppress(TimeoutError, ConnectionError):
                hidden = client.classify(BLANK).version == 1
        after = eventually(
            lambda: [
                container
                for container in stack.containers("serving")
                if container["State"]["Health"]["Status"] == "healthy"
            ],
            why="health after the kill",
        )[0]
        assert after["Id"] == before["Id"]
        assert after["RestartCount"] == before["RestartCount"] + 1
        assert after["State"]["StartedAt"] > before["State"]["StartedAt"]
        if hidden:
            break
    assert hidden
