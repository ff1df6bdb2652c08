"""When TensorFlow's own initialization is left to do its work."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from servable_serving.core.lazy_tensorflow import has_plugins

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No plugins."""
    for name in ("TF_PLUGGABLE_DEVICE_LIBRARY_PATH", "TF_USE_MODULAR_FILESYSTEM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])


def test_there_are_none() -> None:
    assert not has_plugins()


def test_an_installed_one(tmp_path: Path) -> None:
    (tmp_path / "tensorflow-plugins").mkdir()
    assert has_plugins()


@pytest.mark.parametrize("name", ["TF_PLUGGABLE_DEVICE_LIBRARY_PATH", "TF_USE_MODULAR_FILESYSTEM"])
def test_one_that_a_variable_names(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "1")
    assert has_plugins()
