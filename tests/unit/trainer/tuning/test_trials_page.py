"""The page of a search: axes, lines and tables."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest

from servable_trainer.tuning.trials import SearchResult, Trial, TuneError
from servable_trainer.tuning.trials_page import (
    parallel_axes,
    parallel_coordinates,
    render,
    save_page,
)

if TYPE_CHECKING:
    from pathlib import Path


def trial(number: int, accuracy: float, **values: Any) -> Trial:
    return Trial(hyperparameters=values, score=accuracy, name=f"{number:04d}")


def space(*names: str, **sampling: str) -> list[dict[str, Any]]:
    return [{"config": {"name": name, "sampling": sampling.get(name)}} for name in names]


TRIALS = [
    trial(1, 0.9, kind="plain", rate=1e-3, flip=True, units=8),
    trial(0, 0.5, kind="residual", rate=1e-1, flip=False, units=8),
]
SEARCH: dict[str, dict[str, Any]] = {
    "data": {"dataset": "garments"},
    "settings": {"tuner": "random", "epochs": 1, "subset": 200, "seed": 0, "fixed": {}},
}
RESULT = SearchResult(
    trials=TRIALS,
    ended="trials",
    seconds=90.0,
    search=SEARCH,
    space=space("kind", "rate", "flip", "units"),
)


def test_the_last_axis_is_the_accuracy() -> None:
    axis = parallel_axes(TRIALS, RESULT.space)[-1]
    assert (axis.name, axis.heights) == ("validation accuracy", [1.0, 0.0])


def test_what_never_varies_has_no_axis() -> None:
    names = [axis.name for axis in parallel_axes(TRIALS, RESULT.space)]
    assert names == ["kind", "rate", "flip", "validation accuracy"]


def test_choices_stand_at_equal_distances() -> None:
    trials = [trial(n, 0.5, width=width) for n, width in enumerate((8, 64, 16))]
    axis = parallel_axes(trials, space("width"))[0]
    assert axis.heights == [0.0, 1.0, 0.5]
    assert axis.ticks == [(0.0, "8"), (0.5, "16"), (1.0, "64")]


@pytest.mark.parametrize(("sampling", "height"), [("linear", 0.0909), ("log", 0.5)])
def test_many_numbers_stand_to_scale(sampling: str, height: float) -> None:
    values = (1.0, 100.0, 10.0, 2.0, 3.0, 4.0, 5.0)
    trials = [trial(n, 0.5, rate=value) for n, value in enumerate(values)]
    axis = parallel_axes(trials, space("rate", rate=sampling))[0]
    assert axis.heights[:3] == pytest.approx([0.0, 1.0, height], abs=1e-4)
    assert len(axis.ticks) == 5


def test_a_logarithmic_axis_with_zero_is_linear() -> None:
    trials = [trial(n, 0.5, rate=float(n)) for n in range(9)]
    axis = parallel_axes(trials, space("rate", rate="log"))[0]
    assert axis.heights[4] == 0.5


def test_booleans_read_yes_and_no() -> None:
    flip = parallel_axes(TRIALS, RESULT.space)[2]
    assert sorted(text for _, text in flip.ticks) == ["no", "yes"]


def test_a_hyperparameter_that_a_trial_lacks_has_a_tick() -> None:
    trials = [trial(0, 0.5, blocks=2), trial(1, 0.4)]
    axis = parallel_axes(trials, space("blocks"))[0]
    assert "None" in [text for _, text in axis.ticks]
    assert len(axis.heights) == 2


def test_without_trials_there_are_no_axes() -> None:
    assert parallel_axes([], RESULT.space) == []


def test_the_plot_is_well_formed_with_a_line_and_a_tooltip_per_trial() -> None:
    svg = parallel_coordinates(TRIALS, parallel_axes(TRIALS, RESULT.space))
    svg = svg.replace("xlink:href", "href")  # its namespace is implied in a page
    groups = {group.get("id"): group for group in ET.fromstring(svg).iter("g")}
    title = groups["trial-0001"].find("title")
    assert title is not None
    assert title.text is not None
    assert title.text.startswith("trial 0001: 0.9000")
    assert "trial-0000" in groups


def test_labels_are_escaped() -> None:
    trials = [trial(0, 0.9, kind="<b>&$x$"), trial(1, 0.5, kind="y")]
    svg = parallel_coordinates(trials, parallel_axes(trials, space("kind")))
    assert "<b>" not in svg
    assert "$x$" in svg


def test_the_same_trials_give_the_same_plot() -> None:
    axes = parallel_axes(TRIALS, RESULT.space)
    assert parallel_coordinates(TRIALS, axes) == parallel_coordinates(TRIALS, axes)


def test_the_page_fetches_nothing() -> None:
    assert "//" not in render(RESULT)


def test_the_page_names_the_best_trial_and_the_settings() -> None:
    page = " ".join(render(RESULT).split())
    assert "The best is trial 0001" in page
    assert "garments" in page
    assert "1.5 minutes" in page


def test_fixed_hyperparameters_are_listed() -> None:
    settings = {**SEARCH["settings"], "fixed": {"kind": "plain", "flip": True}}
    page = render(replace(RESULT, search={**SEARCH, "settings": settings}))
    assert "kind plain" in page
    assert "flip yes" in page


def test_failed_trials_have_a_table_with_the_reason() -> None:
    failed = Trial(hyperparameters={}, score=None, name="0009", status="failed", error="<why>")
    page = render(replace(RESULT, trials=[*TRIALS, failed]))
    assert "&lt;why&gt;" in page


def test_a_page_of_failed_trials_only_has_no_plot() -> None:
    failed = Trial(hyperparameters={}, score=None, status="failed", error="why")
    assert "<svg" not in render(replace(RESULT, trials=[failed]))


def test_the_page_is_written_to_the_directory(tmp_path: Path) -> None:
    path = save_page(tmp_path, RESULT)
    assert path == tmp_path / "trials.html"
    assert path.read_text().startswith("<!DOCTYPE html>")


def test_a_page_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "trials.html").mkdir()
    with pytest.raises(TuneError):
        save_page(tmp_path, RESULT)
