"""models.traffic: which shares follow from which labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from servable_serving.core.errors import FolderError
from servable_serving.repository.models_config import ModelsConfig
from servable_serving.repository.traffic import (
    NAME,
    Route,
    TrafficError,
    read_traffic,
    write_traffic,
)

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    set_labels(tmp_path, stable=1, canary=2)
    return tmp_path


def set_labels(root: Path, model: str = "garments", **labels: int) -> None:
    with ModelsConfig(root).change(model, root / model) as entry:
        entry.version_labels.clear()
        for label, version in labels.items():
            entry.version_labels[label] = version


def shares(root: Path, model: str = "garments") -> dict[str, float]:
    return {route.label: route.percent for route in read_traffic(root)[model]}


def test_no_file_has_no_routes(tmp_path: Path) -> None:
    assert read_traffic(tmp_path) == {}


def test_stable_gets_everything_by_default(root: Path) -> None:
    write_traffic(root, {})
    assert read_traffic(root)["garments"] == [
        Route(label="canary", version=2, percent=0.0),
        Route(label="stable", version=1, percent=100.0),
    ]


def test_stable_gets_the_rest(root: Path) -> None:
    write_traffic(root, {"garments": {"canary": 12.5}})
    assert shares(root) == {"canary": 12.5, "stable": 87.5}


def test_a_share_is_kept_until_it_is_changed(root: Path) -> None:
    write_traffic(root, {"garments": {"canary": 10}})
    write_traffic(root, {})
    assert shares(root) == {"canary": 10.0, "stable": 90.0}


def test_a_label_that_is_removed_gives_its_share_to_stable(root: Path) -> None:
    write_traffic(root, {"garments": {"canary": 10}})
    set_labels(root, stable=1)
    write_traffic(root, {})
    assert shares(root) == {"stable": 100.0}


def test_kept_shares_yield_to_new_ones(root: Path) -> None:
    set_labels(root, stable=1, canary=2, beta=3)
    write_traffic(root, {"garments": {"canary": 60}})
    write_traffic(root, {"garments": {"beta": 50}})
    assert shares(root) == {"beta": 50.0, "canary": 0.0, "stable": 50.0}


def test_shares_are_rounded_to_hundredths(root: Path) -> None:
    write_traffic(root, {"garments": {"canary": 100 / 3}})
    assert shares(root) == {"canary": 33.33, "stable": 66.67}


def test_without_stable_nobody_gets_the_rest(root: Path) -> None:
    set_labels(root, canary=2)
    write_traffic(root, {"garments": {"canary": 10}})
    assert shares(root) == {"canary": 10.0}


def test_the_end_of_a_trial_is_a_comment(root: Path) -> None:
    write_traffic(root, {"garments": {"canary": 10}}, until={"garments": 12.3})
    assert "# garments until 13\n" in (root / NAME).read_text()


def test_a_label_that_has_no_place_in_a_path_is_left_out(root: Path) -> None:
    set_labels(root, "other", **{"a b": 1})
    write_traffic(root, {})
    assert set(read_traffic(root)) == {"garments"}


@pytest.mark.parametrize("percent", [-1.0, 100.5, float("nan"), float("inf")])
def test_an_invalid_share_is_refused(root: Path, percent: float) -> None:
    with pytest.raises(TrafficError):
        write_traffic(root, {"garments": {"canary": percent}})
    assert not (root / NAME).exists()


@pytest.mark.parametrize(
    "asked", [{"other": {"stable": 1.0}}, {"garments": {"beta": 1.0}},
              {"garments": {"canary": 60.0, "stable": 50.0}}],
)  # fmt: skip
def test_shares_that_do_not_fit_the_labels_are_refused(
    root: Path, asked: dict[str, dict[str, float]]
) -> None:
    with pytest.raises(TrafficError):
        write_traffic(root, asked)


@pytest.mark.parametrize("line", ["garments stable 1", "garments stable one 100", "a b c d e"])
def test_an_invalid_line_is_refused(root: Path, line: str) -> None:
    (root / NAME).write_text(f"{line}\n")
    with pytest.raises(TrafficError):
        read_traffic(root)


def test_comments_and_empty_lines_are_ignored(root: Path) -> None:
    (root / NAME).write_text("# comment\n\ngarments stable 1 100\n")
    assert shares(root) == {"stable": 100.0}


def test_an_invalid_file_is_replaced(root: Path) -> None:
    (root / NAME).write_text("nonsense\n")
    write_traffic(root, {})
    assert shares(root) == {"canary": 0.0, "stable": 100.0}


def test_a_file_that_cannot_be_read_is_an_error(root: Path) -> None:
    (root / NAME).mkdir()
    with pytest.raises(TrafficError):
        read_traffic(root)
    with pytest.raises(FolderError):
        write_traffic(root, {})
