"""The plots of reports and comparisons."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from servable_trainer.evaluation.plots import cost_plot, reliability_plot, robustness_plot
from servable_trainer.evaluation.robustness import RobustnessPoint
from servable_trainer.scoring.metrics import Bin


def words(svg: str) -> str:
    return " ".join(ET.fromstring(svg).itertext())


def point(disturbance: str, level: float) -> RobustnessPoint:
    return RobustnessPoint(
        disturbance=disturbance,
        level=level,
        unit="pixels",
        accuracy=0.5,
        interval=(0.4, 0.6),
        count=10,
    )


def test_reliability_with_empty_bins() -> None:
    bins = [
        Bin(low=n / 3, high=(n + 1) / 3, count=count, confidence=(n + 0.5) / 3, accuracy=0.5)
        for n, count in enumerate((0, 4, 9))
    ]
    assert "confidence" in words(reliability_plot(bins))


def test_robustness_has_a_plot_for_each_disturbance() -> None:
    found = [point("none", 0), point("shift", 1), point("shift", 2), point("blur", 1)]
    text = words(robustness_plot(found))
    assert "shift: pixels" in text
    assert "blur: pixels" in text


def test_cost_names_each_classifier_as_plain_text() -> None:
    points = [("a $x$ <b>", 0.1, 0.9, 1000.0, True), ("other", 10.0, 0.8, 0.0, False)]
    text = words(cost_plot(points, best="other"))
    assert "a $x$ <b>" in text
    assert "other" in text


def test_names_at_one_place_do_not_overlap() -> None:
    points = [("one", 1.0, 0.9, 10.0, True), ("two", 1.0, 0.9, 10.0, False)]
    places = {
        one.text: one.get("transform") or one.get("y")
        for one in ET.fromstring(cost_plot(points)).iter("{http://www.w3.org/2000/svg}text")
    }
    assert places["one"] != places["two"]
