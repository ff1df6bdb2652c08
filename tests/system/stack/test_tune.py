"""Profile `tune`: a chief and two workers search, and the winner is pushed."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tests.conftest import NAME
from tests.system.stack.stacks import Stack, eventually, run

from servable_trainer.data import fashion_mnist

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.docker, pytest.mark.timeout(3000)]

# Networks that learn little, and quickly.
SEARCH = (
    "--trials 3 --epochs 1 --subset 400 --fix kind=plain --fix stages=2 --fix width=8 "
    "--fix blocks=1 --fix kernel_size=3 --fix optimizer=adamw --fix mixup=0.0"
)


@pytest.fixture
def tuning(stack: Stack, trainer_image: str) -> Iterator[Stack]:  # noqa: ARG001
    """The stack, whose repository is the trainer's to write to."""
    before = dict(stack.environment)
    owner = "1000" if os.getuid() == 0 else str(os.getuid())
    if os.getuid() == 0:
        run("chown", "-R", f"{owner}:{owner}", stack.models)
    stack.environment |= {
        "SERVABLE_UID": owner,
        "SERVABLE_GID": owner,
        "SERVABLE_DATA": str(fashion_mnist.find()[0]),
        "SERVABLE_TUNE_FLAGS": SEARCH,
        "SERVABLE_WINNER_FLAGS": "--epochs 1 --validation-share 0.9",
        # The gates hold it against the shipped network, which has learnt for an hour.
        "SERVABLE_PUSH_FLAGS": "--skip accuracy --why 'a search of a minute' "
        "--skip latency --why 'other tests run'",
    }
    yield stack
    stack.environment = before


def test_a_search_of_three_processes_pushes_its_winner(tuning: Stack) -> None:
    folder = tuning.models / NAME
    before = {path.name for path in folder.iterdir() if path.name.isdigit()}
    tuning("--profile", "tune", "up", "--detach")
    workers = tuning.containers("tune-worker", ended=True)
    assert len(workers) == 2

    def ended() -> list[dict[str, Any]]:
        (chief,) = tuning.containers("tune-chief", ended=True)
        assert chief["State"]["ExitCode"] == 0, tuning.tell()
        pushers = tuning.containers("tune-push", ended=True)
        return [one for one in pushers if one["State"]["Status"] == "exited"]

    (pusher,) = eventually(ended, within=2400, why="the end of the search")
    said = tuning("--profile", "tune", "logs", "--no-log-prefix", "tune-chief", "tune-push")
    assert pusher["State"]["ExitCode"] == 0, said
    # Both workers joined, and every trial was one's of them.
    assert len(set(workers_that_joined(said))) == 2, said
    (version,) = {path.name for path in folder.iterdir() if path.name.isdigit()} - before
    about = json.loads((folder / version / "assets.extra" / "manifest.json").read_text())
    assert about["hyperparameters"]["width"] == 8
    assert (folder / version).stat().st_uid == int(tuning.environment["SERVABLE_UID"])
    with tuning.client(label="canary") as client:
        answer = client.classify(np.zeros((28, 28), np.uint8))
        assert answer.version == int(version)
    for container in (pusher, *workers):
        host = container["HostConfig"]
        assert host["ReadonlyRootfs"]
        assert host["CapDrop"] == ["ALL"]
        assert host["SecurityOpt"] == ["no-new-privileges:true"]
        assert container["State"]["ExitCode"] == 0


def workers_that_joined(said: str) -> list[str]:
    """The workers of whom the chief said that they joined."""
    return [
        line.split("worker ")[1].split(" joined")[0]
        for line in said.splitlines()
        if "worker " in line and line.rstrip().endswith("joined")
    ]
