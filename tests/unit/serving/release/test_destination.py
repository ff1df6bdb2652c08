"""A repository that can be written to is left as it was."""

from __future__ import annotations

from typing import TYPE_CHECKING

import fsspec
import pytest

from servable_client import InvalidInput
from servable_serving.core.errors import FolderError
from servable_serving.release.destination import check_destination

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("name", ["garments", "new", "new/garments"])
def test_a_folder_is_left_as_it_was(tmp_path: Path, name: str) -> None:
    (tmp_path / "garments").mkdir()
    check_destination(str(tmp_path / name))
    assert [path.name for path in tmp_path.rglob("*")] == ["garments"]


def test_a_file_is_not_a_repository(tmp_path: Path) -> None:
    (tmp_path / "garments").touch()
    with pytest.raises(FolderError):
        check_destination(str(tmp_path / "garments"))


def test_a_repository_behind_a_url_is_left_as_it_was() -> None:
    check_destination("memory://destination/models")
    assert fsspec.filesystem("memory").find("/destination") == []


def test_an_invalid_url_is_refused() -> None:
    with pytest.raises(InvalidInput):
        check_destination("nosuch://models")
