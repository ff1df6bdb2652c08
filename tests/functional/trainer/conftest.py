"""Small data for commands that run in the process of the tests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from servable_trainer.data import fashion_mnist

if TYPE_CHECKING:
    from servable_trainer.data.dataset import Dataset


@pytest.fixture
def small_data(
    dataset: Dataset, small_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> Dataset:
    """What commands find: all training images, but a tenth of the test images."""
    small = replace(dataset, test=small_dataset.test)
    monkeypatch.setattr(fashion_mnist, "find", lambda _=None: (Path("data"), small))
    return small
