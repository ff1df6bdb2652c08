"""A push that is killed, at each of its steps and while it copies."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pytest
from tests.functional.serving.releases import BALLAST, Stage, skipping, with_ballast

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
    """Ask the server continuously for its versions, each of which must be valid."""
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


@contextmanager
def pushing(stage: Stage, candidate: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A push in a process of its own, killed at the end of the block."""
    with subprocess.Popen(
        [
            sys.executable, "-m", "servable_client", "push", candidate,
            *stage.moving(), *skipping(),
        ],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def killed_at(stage: Stage, candidate: Path, step: str) -> None:
    """Start a push, and kill it when a step begins."""
    with pushing(stage, candidate) as process:
        assert process.stderr
        seen = b""
        # By the character: a step's name is written when it begins, the rest when it has ended. At
        # the beginning of a line, since a line before may end with the same word.
        while not seen.endswith(b"\n" + step.encode()):
            one = process.stderr.read(1)
            assert one, seen
            seen += one


def killed_while_copying(stage: Stage, candidate: Path, part: float) -> bool:
    """Start a push, and kill it when a part of the large file is copied; whether it was."""
    size = (candidate / BALLAST).stat().st_size
    with pushing(stage, candidate) as process:
        while process.poll() is None:
            for folder in stage.repository.leftovers():
                with suppress(FileNotFoundError):
                    if (folder / BALLAST).stat().st_size >= part * size:
                        return True
            time.sleep(0.001)
    return False


def check_whole(stage: Stage) -> None:
    """Every version in sight is complete, and the served version has not changed."""
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


def test_a_push_that_is_killed_while_it_copies(stage: Stage) -> None:
    stage.push(1)
    large = with_ballast(stage.candidates[2], 64)
    killed = []
    with watched(stage):
        for part in (0.0, 0.3, 0.7):
            killed.append(killed_while_copying(stage, large, part))
            check_whole(stage)
        version = stage.push(3)
    assert any(killed)
    assert not stage.repository.leftovers()
    assert (stage.resolved("stable"), stage.resolved("canary")) == (1, version)
