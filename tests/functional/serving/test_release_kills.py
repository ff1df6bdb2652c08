"""A push that is killed, at each of its steps and at any moment of its staging."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from tests.functional.serving.releases import Stage, skipping, with_ballast

from servable_client import ServableError
from servable_serving.release.inventory import verify
from servable_serving.repository.candidate import check_candidate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# The lines at whose beginning it is killed; what comes before "stage" writes nothing.
STEPS = ("operations", "stage", "wait", "smoke", "label")


@contextmanager
def watched(stage: Stage) -> Iterator[None]:
    """Ask the server without a break what it lists, and be sure that it is always whole."""
    failed: list[str] = []
    stopping = threading.Event()

    def ask() -> None:
        with stage.client() as client:
            while not stopping.wait(0.05):
                try:
                    states = client.status()
                    assert client.resolve(label="stable") == 1
                except (ServableError, AssertionError) as error:
                    failed.append(repr(error))
                    continue
                failed.extend(str(s) for s in states if s.error_code != "OK")

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()
    assert not failed, failed[:3]


def killed_at(stage: Stage, candidate: Path, step: str, after: float = 0.0) -> None:
    """Start a push, and kill it when a step begins, or some seconds later."""
    with subprocess.Popen(
        [
            sys.executable, "-m", "servable_client", "push", candidate,
            *stage.moving(), *skipping(),
        ],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        assert process.stderr
        seen = b""
        # By the character: a step's name is written when it begins, the rest when it has ended. At
        # the beginning of a line, since a line before may end with the same word.
        while not seen.endswith(b"\n" + step.encode()):
            one = process.stderr.read(1)
            assert one, seen
            seen += one
        time.sleep(after)  # a moment in the step, and no wait for anything
        process.kill()


def check_whole(stage: Stage) -> None:
    """Every version in sight is whole, and what is served is what was served."""
    for folder in stage.repository.folders().values():
        check_candidate(folder)
    with stage.deployment() as deployment:
        # Except for what was left incomplete, which no server reads.
        trouble = [c for c in verify(deployment) if c.trouble and ".incoming-" not in c.what]
    assert not trouble
    assert stage.labels()["stable"] == 1


@pytest.mark.parametrize("step", STEPS)
def test_a_push_that_is_killed_as_a_step_begins(stage: Stage, step: str) -> None:
    stage.push(1)
    with watched(stage):
        killed_at(stage, stage.candidates[2], step)
        check_whole(stage)
        before = set(stage.repository.versions())
        assert before <= {1, 2}
        version = stage.push(3)
    assert version == max(before) + 1
    assert (stage.resolved("stable"), stage.resolved("canary")) == (1, version)
    assert not stage.repository.leftovers()
    # What the killed one had listed is not loaded for ever.
    with stage.deployment() as deployment:
        assert deployment.listed() == {1, version}


def test_a_push_that_is_killed_at_any_moment_of_its_staging(stage: Stage) -> None:
    stage.push(1)
    large = with_ballast(stage.candidates[2], 64)
    draw = random.Random(6).random
    partial = 0
    with watched(stage):
        for _ in range(6):
            killed_at(stage, large, "stage", after=0.4 * draw())
            partial += bool(stage.repository.leftovers())
            check_whole(stage)
        version = stage.push(3)
    assert partial, "no kill fell into the copying"
    assert not stage.repository.leftovers()
    assert (stage.resolved("stable"), stage.resolved("canary")) == (1, version)
