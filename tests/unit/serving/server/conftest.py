"""What the server's unit tests share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.unit.serving.server.fakes import Managed, Registered

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def managed(tmp_path: Path) -> Managed:
    """A manager that retries nothing."""
    return Managed(tmp_path / "m")


@pytest.fixture
def registered(tmp_path: Path) -> Registered:
    """Models that retry nothing."""
    return Registered(tmp_path)
