"""The figures of an examination, from fixed probabilities."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from servable_trainer.data.dataset import Dataset, Pictures
from servable_trainer.evaluation import latency as latency_module
from servable_trainer.evaluation.evaluated_model import EvaluatedModel, open_model
from servable_trainer.evaluation.examination import (
    calibration_of,
    confusion_of,
    examination_of,
    mistakes_of,
)
from servable_trainer.evaluation.latency import latency
from servable_trainer.evaluation.robustness import (
    LEVELS,
    blur,
    noise,
    robustness,
    sample,
    shift,
)
from servable_trainer.training.run import RunError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

LABELS = ("a", "b", "c")
PROBABILITIES = np.array([[0.9, 0.1, 0.0], [0.2, 0.7, 0.1], [0.6, 0.3, 0.1], [0.1, 0.1, 0.8]])
TARGETS = np.array([1, 1, 0, 0])


def pictures(count: int, side: int = 6) -> Pictures:
    """Images whose pixels are their class, 0 to 2, times 100."""
    targets = np.arange(count) % 3
    images = (targets[:, None, None] * 100 * np.ones((1, side, side))).astype(np.uint8)
    return Pictures(images=images, targets=targets)


def dataset(count: int = 30) -> Dataset:
    return Dataset(
        name="levels", labels=LABELS, train=pictures(60), test=pictures(count), checksums={"f": "0"}
    )


class Thresholds(EvaluatedModel):
    """Classifies by the middle pixel; notes the size of each call.

    Attributes:
        calls: How many images each call had.
        spoil: What is done to its probabilities.
    """

    kind = "run"
    clock = "in the test"

    def __init__(self) -> None:
        super().__init__("thresholds")
        self.calls: list[int] = []
        self.spoil: Callable[[NDArray[np.float32]], NDArray[np.float32]] = lambda p: p

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.calls.append(len(images))
        answer = np.rint(images[:, 3, 3] / 100).astype(int).clip(0, 2)
        return self.spoil((0.1 + 0.7 * np.eye(3, dtype=np.float32))[answer])


def test_confusion() -> None:
    assert confusion_of(TARGETS, PROBABILITIES) == [[1, 0, 1], [1, 1, 0], [0, 0, 0]]


def test_mistakes_are_ranked_by_confidence() -> None:
    first, second = mistakes_of(TARGETS, PROBABILITIES, LABELS)
    assert (first.index, first.truth, first.answer, first.probability) == (0, "b", "a", 0.9)
    assert first.probability_of_truth == pytest.approx(0.1)
    assert (second.index, second.truth, second.answer) == (3, "a", "c")


def test_mistakes_are_limited() -> None:
    assert len(mistakes_of(TARGETS, PROBABILITIES, LABELS, count=1)) == 1


def test_no_mistakes() -> None:
    assert mistakes_of(PROBABILITIES.argmax(axis=1), PROBABILITIES, LABELS) == []


# Always 0.9 confident and right 3 times of 4: the best temperature is 2.
OVERCONFIDENT = np.array([[0.9, 0.1]] * 4000)
RIGHT = np.tile([0, 0, 0, 1], 1000)


def test_calibration_fits_and_measures_different_halves() -> None:
    found = calibration_of(RIGHT, OVERCONFIDENT, None)
    assert (found.fitted_on, found.fitted, found.measured) == ("half of test", 2000, 2000)
    assert found.temperature == pytest.approx(2, rel=0.15)


def test_calibration_with_validation_images_measures_all_test_images() -> None:
    found = calibration_of(RIGHT, OVERCONFIDENT, (RIGHT[:400], OVERCONFIDENT[:400]))
    assert (found.fitted_on, found.fitted, found.measured) == ("validation", 400, 4000)
    assert found.temperature == pytest.approx(2, rel=1e-3)
    assert found.error == pytest.approx(0.15)
    assert found.error_cooled == pytest.approx(0, abs=1e-3)
    assert found.nll_cooled < found.nll


def test_calibration_of_a_single_image() -> None:
    found = calibration_of(TARGETS[:1], PROBABILITIES[:1], None)
    assert (found.temperature, found.fitted, found.measured) == (1, 0, 1)


@pytest.mark.parametrize("shape", [(400, 28, 28), (400, 9, 7, 3)])
def test_noise_has_the_given_deviation(shape: tuple[int, ...]) -> None:
    noisy = noise(np.full(shape, 100, np.uint8), 16, np.random.default_rng(1)).astype(float) - 100
    assert noisy.std() == pytest.approx(16, rel=0.02)
    assert noisy.mean() == pytest.approx(0, abs=0.2)


def test_noise_stays_within_the_range_of_pixels() -> None:
    noisy = noise(np.full((1, 50, 50), 250, np.uint8), 64, np.random.default_rng(1))
    assert (noisy.min(), noisy.max()) > (0, 254)


@pytest.mark.parametrize("shape", [(400, 28, 28), (400, 9, 7, 3)])
def test_shifts_go_in_four_directions(shape: tuple[int, ...]) -> None:
    dot = np.zeros(shape, np.uint8)
    dot[:, 4, 3] = 200
    moved = shift(dot, 2, np.random.default_rng(1))
    found = [tuple(np.argwhere(image)[0][:2].tolist()) for image in moved]
    places = {(6, 3), (2, 3), (4, 5), (4, 1)}
    assert set(found) == places
    assert min(found.count(place) for place in places) > 60
    assert (moved.reshape(400, -1).sum(axis=1) == dot[0].sum()).all()


@pytest.mark.parametrize("shape", [(4, 28, 28), (4, 9, 7, 3)])
def test_blur_is_gaussian_and_per_image(shape: tuple[int, ...]) -> None:
    dot = np.zeros(shape, np.uint8)
    dot[:, 4, 3] = 200
    soft = blur(dot, 1)
    assert soft[0, 4, 3].max() == pytest.approx(200 / (2 * np.pi), rel=0.02)
    assert soft[0, 4, 4].max() == pytest.approx(200 / (2 * np.pi) * np.exp(-0.5), rel=0.04)
    assert (soft == soft[:1]).all()


def test_a_sample_holds_each_image_once() -> None:
    numbered = Pictures(images=pictures(50).images, targets=np.arange(50))
    few = sample(numbered, 20)
    assert len(set(few.targets.tolist())) == 20
    assert (few.images == numbered.images[few.targets]).all()


def test_a_sample_of_few_is_all_of_them() -> None:
    few = pictures(5)
    assert sample(few, 5) is few


def test_robustness_measures_each_level_with_the_same_images() -> None:
    found = robustness(Thresholds(), pictures(30), LABELS, advance=lambda _: None)
    assert (found[0].disturbance, found[0].accuracy, found[0].level) == ("none", 1.0, 0)
    assert [(p.disturbance, p.level) for p in found[1:]] == [
        (name, level) for name, (_, levels) in LEVELS.items() for level in levels
    ]
    assert {p.count for p in found} == {30}


def test_answers_come_in_batches_and_report_progress() -> None:
    model, done = Thresholds(), list[int]()
    found = model.answers(pictures(1100), LABELS, done.append)
    assert found.shape == (1100, 3)
    assert model.calls == done == [500, 500, 100]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda p: p * np.float32(np.nan),
        lambda p: p * np.float32(3),
        lambda p: p - np.float32(0.5),
        lambda p: p[:, :2],
    ],
    ids=["NaN", "sum", "negative", "classes"],
)
def test_answers_that_are_not_probabilities_are_refused(spoil: Any) -> None:
    model = Thresholds()
    model.spoil = spoil
    with pytest.raises(RunError, match="thresholds"):
        model.answers(pictures(5), LABELS, lambda _: None)


@pytest.fixture
def _few_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency_module, "_CALLS", 20)


@pytest.mark.usefixtures("_few_calls")
def test_latency_asks_full_batches_and_does_not_count_the_warm_up() -> None:
    model = Thresholds()
    found = latency(model, pictures(5), batch=32)
    assert (found.batch, found.calls) == (32, 20)
    assert set(model.calls) == {32}
    assert len(model.calls) == 30
    assert 0 <= found.median_ms <= found.p99_ms


def test_a_quick_examination() -> None:
    found = examination_of(Thresholds(), dataset(), thorough=False)
    assert found.evaluation.accuracy == 1
    assert found.confusion == [[10, 0, 0], [0, 10, 0], [0, 0, 10]]
    assert (found.robustness, found.latency, found.mistakes) == (None, None, [])
    assert found.subject == {"what": "thresholds", "kind": "run", "version": None}


@pytest.mark.usefixtures("_few_calls")
def test_a_thorough_examination_can_be_written_as_json() -> None:
    found = examination_of(Thresholds(), dataset(), thorough=True)
    written = json.loads(json.dumps(found.as_dict()))
    assert (written["accuracy"], written["what"]) == (1, "thresholds")
    assert len(written["robustness"]) == 1 + sum(len(levels) for _, levels in LEVELS.values())
    assert [one["batch"] for one in written["latency"]] == [1, 32]


@pytest.mark.usefixtures("_few_calls")
def test_the_rows_of_a_table() -> None:
    rows = examination_of(Thresholds(), dataset(), thorough=True).rows()
    assert len(rows) == 2 + 13 + 2
    assert all(name and value for name, value in rows)


@pytest.mark.parametrize("content", [None, "file"])
def test_what_is_not_a_run_is_refused(tmp_path: Path, content: str | None) -> None:
    what = tmp_path / "run"
    if content:
        what.mkdir()
        (what / "run.json").write_text("{")
    with pytest.raises(RunError), open_model(what, dataset()):
        pass


def test_a_model_with_versions_names_the_newest(tmp_path: Path) -> None:
    for version in ("2", "10"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "saved_model.pb").touch()
    with pytest.raises(RunError) as caught, open_model(tmp_path, dataset()):
        pass
    assert str(tmp_path / "10") in str(caught.value.hint)
