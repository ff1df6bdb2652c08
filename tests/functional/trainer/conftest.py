"""Small data for commands that run in the process of the tests."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from servable_trainer.data import fashion_mnist

if TYPE_CHECKING:
    from servable_trainer.data.dataset import Dataset


@pytest.fixture
def small_data(small_dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """What commands find in place of the whole of Fashion-MNIST."""
    monkeypatch.setattr(fashion_mnist, "find", lambda _=None: (Path("data"), small_dataset))
    return small_dataset
