"""A repository with three versions, and servers that read it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from tests.unit.serving.release.fakes import FakeServers, deployment_in
from tests.unit.serving.repository.candidates import make_candidate

from servable_serving.release import deployment as module

if TYPE_CHECKING:
    from pathlib import Path

    from servable_serving.release.deployment import Deployment


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A version that lost its label is unloaded at once."""
    monkeypatch.setattr(module, "_FOLLOW_SECONDS", 0.0)


@pytest.fixture(autouse=True)
def _no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for the disk takes most of the time, and proves nothing here."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def servers(root: Path) -> FakeServers:
    return FakeServers(root)


@pytest.fixture
def candidate(tmp_path: Path) -> Path:
    return make_candidate(tmp_path / "candidate")


@pytest.fixture
def empty(root: Path, servers: FakeServers) -> Deployment:
    """A deployment without versions."""
    return deployment_in(root, servers)


@pytest.fixture
def deployment(empty: Deployment, candidate: Path) -> Deployment:
    """A deployment of versions 1 to 3, of which 1 is stable and loaded."""
    for _ in range(3):
        empty.repository.push(candidate)
    empty.load(1)
    empty.set_label("stable", 1, what="push")
    return empty
