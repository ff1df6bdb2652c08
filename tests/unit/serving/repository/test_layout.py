"""Which folder names are versions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from servable_serving.repository.layout import version_folders, version_of

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("1", 1), ("007", 7), (" 3 ", 3), ("+2", 2), ("-1", -1), (str(2**63 - 1), 2**63 - 1),
        (str(2**63), None), ("1.0", None), ("v1", None), ("", None), (".incoming-1", None),
        ("1" * 120, None),
    ],
)  # fmt: skip
def test_a_version_is_a_64_bit_number(name: str, version: int | None) -> None:
    assert version_of(name) == version


def test_other_names_are_ignored(tmp_path: Path) -> None:
    for name in ("1", "2", "readme", ".rejected"):
        (tmp_path / name).mkdir()
    assert version_folders(tmp_path) == {1: tmp_path / "1", 2: tmp_path / "2"}


def test_of_two_names_for_one_version_the_last_counts(tmp_path: Path) -> None:
    for name in ("01", "1"):
        (tmp_path / name).mkdir()
    assert version_folders(tmp_path) == {1: tmp_path / "1"}
