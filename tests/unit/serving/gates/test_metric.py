"""The gate `accuracy` for models of any kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from servable_client import ServableError
from servable_serving.core.errors import ModelError
from servable_serving.gates.holdout import HoldoutError
from servable_serving.gates.metric import Rows, check_metric, compare_metric, read_rows, score
from servable_serving.gates.verdict import Refused

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

CONTRACT: dict[str, Any] = {
    "serving_default": {
        "inputs": {"age": {"dtype": "DT_FLOAT", "shape": [-1, 1]}},
        "outputs": {"price": {"dtype": "DT_FLOAT", "shape": [-1, 1]}},
    }
}
TWO: dict[str, Any] = {
    "serving_default": {
        "inputs": CONTRACT["serving_default"]["inputs"],
        "outputs": {"price": {}, "risk": {}},
    }
}


@dataclass
class FakeModel:
    """Answers with its input, and an error of so much."""

    error: float = 0.0
    broken: bool = False

    def ask(self, signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        if self.broken:
            raise ModelError("INTERNAL", "it is broken")
        assert signature == "serving_default"
        assert inputs["age"].dtype == np.float32
        return {"price": inputs["age"] + self.error, "risk": -inputs["age"]}


def rows(count: int = 1200) -> Rows:
    age = np.arange(count, dtype=np.float64).reshape(-1, 1)
    return Rows(source="rows.npz", inputs={"age": age}, targets=age[:, 0] + 1)


def judged(
    candidate: FakeModel, served: FakeModel | None, metric: str = "mae", tolerance: float = 0.1
) -> dict[str, Any]:
    return compare_metric(candidate, served, CONTRACT, rows(), metric, tolerance).figures


def test_the_value_of_a_first_version_is_reported() -> None:
    figures = judged(FakeModel(), None)
    assert (figures["value"], figures["count"], figures["metric"]) == (1.0, 1200, "mae")


@pytest.mark.parametrize("metric", ["mae", "rmse"])
def test_an_error_may_grow_by_the_tolerance(metric: str) -> None:
    assert judged(FakeModel(-0.05), FakeModel(), metric)["served_value"] == 1.0
    judged(FakeModel(1.0), FakeModel(), metric)
    with pytest.raises(Refused) as caught:
        judged(FakeModel(-0.2), FakeModel(), metric)
    assert caught.value.figures["value"] == pytest.approx(1.2)
    with pytest.raises(Refused):
        judged(FakeModel(float("nan")), FakeModel(), metric)


def test_a_score_may_drop_by_the_tolerance() -> None:
    targets = np.array([0, 0, 0, 1])
    age = np.array([[0.1], [0.2], [0.6], [0.9]])
    few = Rows(source="rows", inputs={"age": age}, targets=targets)
    for tolerance, passes in ((0.25, True), (0.2, False)):
        better, worse = FakeModel(-0.15), FakeModel()
        compare_metric(better, worse, CONTRACT, few, "accuracy", tolerance)
        if passes:
            compare_metric(worse, better, CONTRACT, few, "accuracy", tolerance)
        else:
            with pytest.raises(Refused):
                compare_metric(worse, better, CONTRACT, few, "accuracy", tolerance)


def test_a_failure_of_the_served_version_is_not_the_candidates() -> None:
    assert judged(FakeModel(), FakeModel(broken=True))["value"] == 1.0
    with pytest.raises(ModelError):
        judged(FakeModel(broken=True), FakeModel())


def test_one_of_several_outputs_must_be_named() -> None:
    found = compare_metric(FakeModel(), None, TWO, rows(), "mae:price", 0.1)
    assert found.figures["value"] == 1.0
    for metric in ("mae", "mae:cost"):
        with pytest.raises(Refused, match="price, risk"):
            compare_metric(FakeModel(), None, TWO, rows(), metric, 0.1)


def test_rows_of_another_model_are_refused() -> None:
    wrong = Rows(source="rows", inputs={"size": np.zeros([2, 1])}, targets=np.zeros(2))
    with pytest.raises(Refused, match="age"):
        compare_metric(FakeModel(), None, CONTRACT, wrong, "mae", 0.1)
    with pytest.raises(Refused):
        compare_metric(FakeModel(), None, {"other": {}}, rows(), "mae", 0.1)
    text = Rows(source="rows", inputs={"age": np.array([["a"]])}, targets=np.zeros(1))
    with pytest.raises(ServableError, match="age"):
        compare_metric(FakeModel(), None, CONTRACT, text, "mae", 0.1)


@pytest.mark.parametrize(
    ("metric", "answers", "targets", "value"),
    [
        ("accuracy", [[0.1, 0.9], [0.8, 0.2]], [1, 1], 0.5),
        ("accuracy", [[0.6], [0.4]], [1, 0], 1.0),
        ("accuracy", [0.6, 0.4], [[1], [0]], 1.0),
        ("accuracy", [2, 3, 4], [2, 3, 3], 2 / 3),
        ("accuracy", np.array([b"a", b"b"], object), ["a", "c"], 0.5),
        ("macro_f1", [[0.9, 0.1], [0.1, 0.9], [0.9, 0.1]], [0, 1, 1], 2 / 3),
        ("auc", [0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1], 0.75),
        ("auc", [[0.9, 0.1], [0.2, 0.8]], [0, 1], 1.0),
        ("mae", [[1.0], [3.0]], [2.0, 2.0], 1.0),
        ("rmse", [[1.0, 5.0]], [[1.0, 2.0]], 4.5**0.5),
        ("rmse", [[[1.0]], [[2.0]]], [[1.0], [2.0]], 0.0),
    ],
)
def test_the_metrics_are_the_usual_ones(
    metric: str, answers: Any, targets: Any, value: float
) -> None:
    assert score(metric, np.asarray(answers), np.asarray(targets)) == pytest.approx(value)


@pytest.mark.parametrize(
    ("metric", "answers", "targets"),
    [
        ("mae", [[1.0, 2.0]], [1.0]),
        ("mae", np.array([b"a"], object), [1.0]),
        ("accuracy", [[[1.0]]], [1]),
        ("accuracy", [1, 2], [[1, 2], [3, 4]]),
        ("auc", [1, 0], [1, 0]),
        ("auc", [0.5, 0.6], [1, 1]),
    ],
)
def test_what_does_not_fit_a_metric_is_refused(metric: str, answers: Any, targets: Any) -> None:
    with pytest.raises(HoldoutError):
        score(metric, np.asarray(answers), np.asarray(targets))


def test_a_metric_may_be_of_an_output() -> None:
    assert check_metric("rmse") == ("rmse", None)
    assert check_metric("rmse:price") == ("rmse", "price")
    with pytest.raises(HoldoutError) as caught:
        check_metric("r2")
    assert "rmse" in (caught.value.hint or "")


def test_rows_are_read_from_a_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", age=[[1.0], [2.0]], word=["a", "b"], targets=[1, 0])
    found = read_rows(tmp_path / "rows.npz")
    assert set(found.inputs) == {"age", "word"}
    assert found.targets.tolist() == [1, 0]


@pytest.mark.parametrize(
    "arrays",
    [
        {"age": [1.0]},
        {"targets": [1]},
        {"targets": [1, 2], "age": [1.0]},
        {"targets": [], "age": []},
        {"targets": 1, "age": [1.0]},
        {"targets": np.array([None]), "age": [1.0]},
    ],
)
def test_other_files_are_refused(tmp_path: Path, arrays: dict[str, Any]) -> None:
    made: Any = {name: np.asarray(value) for name, value in arrays.items()}
    np.savez(tmp_path / "rows.npz", **made)
    with pytest.raises(HoldoutError):
        read_rows(tmp_path / "rows.npz")
    for content in (b"", b"text", b"PK\3\4"):
        (tmp_path / "rows.npz").write_bytes(content)
        with pytest.raises(HoldoutError):
            read_rows(tmp_path / "rows.npz")
