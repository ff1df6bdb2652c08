"""The values that differ between two versions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tests.unit.serving.repository.candidates import make_candidate

from servable_serving.release.diff import differences

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ({}, {}, {}),
        ({"seed": 1}, {"seed": 2}, {"seed": (1, 2)}),
        ({"seed": 1}, {}, {"seed": (1, None)}),
        ({}, {"seed": 2}, {"seed": (None, 2)}),
        ({"metrics": {"test": {"accuracy": 0.9, "loss": 1}}},
         {"metrics": {"test": {"accuracy": 0.8, "loss": 1}}},
         {"metrics.test.accuracy": (0.9, 0.8)}),
        ({"curve": [1, 2]}, {"curve": [3]}, {}),
        ({"created": "a", "git_revision": "b"}, {"created": "c", "git_revision": "d"}, {}),
        ({"nested": {"created": 1}}, {"nested": {"created": 2}}, {"nested.created": (1, 2)}),
    ],
)  # fmt: skip
def test_differences_by_dotted_names(
    tmp_path: Path, one: dict[str, Any], other: dict[str, Any], expected: dict[str, Any]
) -> None:
    first = make_candidate(tmp_path / "one", **one)
    second = make_candidate(tmp_path / "other", **other)
    assert differences(first, second) == expected
