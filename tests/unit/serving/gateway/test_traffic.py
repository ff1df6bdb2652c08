"""models.traffic as nginx splits it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from servable_serving.gateway.traffic import Split, check, lines, splits
from servable_serving.repository.traffic import NAME, Route, TrafficError, read_deadlines

if TYPE_CHECKING:
    from pathlib import Path


def routes(**percents: float) -> list[Route]:
    """A route for each label, the versions counted from 1."""
    return [
        Route(label=label, version=version, percent=percent)
        for version, (label, percent) in enumerate(percents.items(), start=1)
    ]


def parts(**percents: float) -> tuple[tuple[str, str], ...]:
    (found,) = splits({"m": routes(**percents)})
    return found.parts


def test_the_last_share_takes_what_rounding_leaves() -> None:
    assert parts(a=33.33, b=33.33, c=33.34) == (("33.33%", "a"), ("33.33%", "b"), ("*", "c"))


def test_what_is_left_over_has_no_label() -> None:
    assert parts(a=10, b=20.05) == (("10.00%", "a"), ("20.05%", "b"), ("*", ""))


def test_a_label_without_a_share_has_no_part() -> None:
    assert parts(stable=100, canary=0) == (("*", "stable"),)


def test_a_model_without_shares_is_not_split() -> None:
    assert splits({"m": routes(stable=0, canary=0)}) == []


def test_after_the_deadline_the_largest_share_takes_all() -> None:
    assert splits({"m": routes(canary=40, stable=60)}, {"m"}) == [Split("m", (("*", "stable"),))]


def test_of_equal_shares_the_first_is_the_largest() -> None:
    assert splits({"m": routes(a=50, b=50)}, {"m"}) == [Split("m", (("*", "a"),))]


def test_another_models_deadline_changes_nothing() -> None:
    assert splits({"m": routes(a=50, b=50)}, {"other"})[0].parts == (("50.00%", "a"), ("*", "b"))


def test_valid_traffic() -> None:
    check({"a": routes(x=100), "b": routes(x=0.01, y=99.99), "c": []})


@pytest.mark.parametrize(
    "percents", [{"a": 100.01}, {"a": -0.01}, {"a": float("nan")}, {"a": 60.0, "b": 40.01}]
)
def test_invalid_shares(percents: dict[str, float]) -> None:
    with pytest.raises(TrafficError):
        check({"m": routes(**percents)})


@pytest.mark.parametrize(("model", "label"), [('m"', "a"), ("m", "a;"), ("m", "$a"), ("m", "ä")])
def test_names_that_nginx_would_read_otherwise(model: str, label: str) -> None:
    with pytest.raises(TrafficError):
        check({model: routes(**{label: 1.0})})


def test_a_negative_version() -> None:
    with pytest.raises(TrafficError):
        check({"m": [Route(label="a", version=-1, percent=1.0)]})


def test_the_lines_of_the_file() -> None:
    assert lines({"m": routes(stable=87.5, canary=12.5)}) == ["m stable 1 87.5", "m canary 2 12.5"]


def test_deadlines_are_comments(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text(
        "# a until 1700000000\nm stable 1 100\n# b until soon\n# c until 12 or so\n#d until 1\n"
    )
    assert read_deadlines(tmp_path) == {"a": 1_700_000_000}


def test_no_file_no_deadlines(tmp_path: Path) -> None:
    assert read_deadlines(tmp_path) == {}
