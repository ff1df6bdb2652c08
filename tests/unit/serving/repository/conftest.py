"""What the tests of repositories share."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def _no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for the disk takes most of the time, and proves nothing here."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
