"""models.shadow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from servable_serving.core.errors import FolderError
from servable_serving.repository.shadow import Shadow, ShadowError, read_shadows, write_shadow

if TYPE_CHECKING:
    from pathlib import Path

ONE = Shadow(version=3, name="m.shadow", against=1, percent=12.5, until=1_800_000_000)
OTHER = Shadow(version=8, name="n", against=7, percent=100, until=1_800_000_001)


def test_without_a_file_nothing_is_mirrored(tmp_path: Path) -> None:
    assert read_shadows(tmp_path) == {}


def test_models_keep_theirs(tmp_path: Path) -> None:
    write_shadow(tmp_path, "m", ONE)
    write_shadow(tmp_path, "n", OTHER)
    assert read_shadows(tmp_path) == {"m": ONE, "n": OTHER}
    assert "m 3 m.shadow 1 12.5 1800000000\n" in (tmp_path / "models.shadow").read_text()
    write_shadow(tmp_path, "m", None)
    assert read_shadows(tmp_path) == {"n": OTHER}
    write_shadow(tmp_path, "n", None)
    assert not (tmp_path / "models.shadow").exists()


@pytest.mark.parametrize(
    "line",
    [
        "m 3 m 1 12.5", "m 3 m 1 12.5 x", "m 3 m 1 0 5", "m 3 m 1 100.1 5", "m -3 m 1 5 5",
        'm" 3 m 1 5 5', "m 3 m; 1 5 5", "m 3 m 1 1.2.3 5", "m  3 m 1 5 5",
    ],
)  # fmt: skip
def test_a_line_that_is_not_valid_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "models.shadow").write_text(f"# a comment\n\n{line}\n")
    with pytest.raises(ShadowError) as caught:
        read_shadows(tmp_path)
    assert repr(line) in str(caught.value)
    write_shadow(tmp_path, "m", ONE)  # replaces it
    assert read_shadows(tmp_path) == {"m": ONE}


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "models.shadow").mkdir()
    with pytest.raises(ShadowError):
        read_shadows(tmp_path)
    with pytest.raises(FolderError, match=r"models\.shadow"):
        write_shadow(tmp_path, "m", ONE)
