"""Evaluating runs, SavedModels and live endpoints, on real pictures."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.conftest import NAME, SHIPPED, free_port, only_sentence, servable

from servable_client import Client, ConnectionFailed, ModelNotFound
from servable_serving.repository.manifest import MANIFEST, CandidateError, checksums
from servable_trainer.data.dataset import Pictures
from servable_trainer.evaluation.evaluate import evaluate, examine
from servable_trainer.evaluation.evaluated_model import EvaluatedModel, open_model
from servable_trainer.evaluation.examination import calibration_of, confusion_of, mistakes_of
from servable_trainer.evaluation.latency import latency
from servable_trainer.evaluation.robustness import LEVELS, blur, noise, sample, shift
from servable_trainer.training.run import RunError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from tests.conftest import RunningServer

    from servable_trainer.data.dataset import Dataset

ANSWERS = np.array([[0.9, 0.1, 0.0], [0.2, 0.7, 0.1], [0.6, 0.3, 0.1], [0.1, 0.1, 0.8]])
TARGETS = np.array([1, 1, 0, 0])


@pytest.fixture(scope="module")
def tiny_dataset(dataset: Dataset) -> Dataset:
    """All of what may be learnt from, and 300 pictures to test with."""
    return replace(dataset, test=dataset.test.first(300))


def test_the_confusion_by_hand() -> None:
    assert confusion_of(TARGETS, ANSWERS) == [[1, 0, 1], [1, 1, 0], [0, 0, 0]]


def test_the_mistakes_are_those_it_was_surest_of() -> None:
    first, second = mistakes_of(TARGETS, ANSWERS, ("a", "b", "c"))
    assert (first.index, first.truth, first.answer, first.probability) == (0, "b", "a", 0.9)
    assert first.probability_of_truth == pytest.approx(0.1)
    assert (second.index, second.truth, second.answer) == (3, "a", "c")
    assert len(mistakes_of(TARGETS, ANSWERS, ("a", "b", "c"), count=1)) == 1


def test_no_picture_is_both_fitted_and_measured() -> None:
    # Always 0.9 sure and right 3 times of 4, for which the temperature is 2 wherever it is fitted.
    probabilities = np.array([[0.9, 0.1]] * 4000)
    targets = np.tile([0, 0, 0, 1], 1000)
    halves = calibration_of(targets, probabilities, None)
    assert (halves.fitted_on, halves.fitted, halves.measured) == ("half of test", 2000, 2000)
    assert halves.temperature == pytest.approx(2, rel=0.15)
    apart = calibration_of(targets, probabilities, (targets[:400], probabilities[:400]))
    assert (apart.fitted_on, apart.fitted, apart.measured) == ("validation", 400, 4000)
    assert apart.temperature == pytest.approx(2, rel=1e-3)
    assert apart.error == pytest.approx(0.15)
    assert apart.error_cooled == pytest.approx(0, abs=1e-3)
    assert apart.nll_cooled < apart.nll


def test_one_test_picture_is_enough() -> None:
    found = calibration_of(TARGETS[:1], ANSWERS[:1], None)
    assert (found.temperature, found.fitted, found.measured) == (1, 0, 1)


@pytest.mark.parametrize("shape", [(400, 28, 28), (400, 9, 7, 3)])
def test_the_disturbances_are_what_they_say(shape: tuple[int, ...]) -> None:
    grey = np.full(shape, 100, np.uint8)
    noisy = noise(grey, 16, np.random.default_rng(1)).astype(float) - 100
    assert noisy.std() == pytest.approx(16, rel=0.02)
    assert noisy.mean() == pytest.approx(0, abs=0.2)

    dot = np.zeros(shape, np.uint8)
    dot[:, 4, 3] = 200
    moved = shift(dot, 2, np.random.default_rng(1))
    places = {(4 + 2, 3), (4 - 2, 3), (4, 3 + 2), (4, 3 - 2)}
    found = [tuple(np.argwhere(picture)[0][:2].tolist()) for picture in moved]
    assert set(found) == places
    assert min(found.count(place) for place in places) > 60  # of 400, in four directions
    assert (moved.reshape(400, -1).sum(axis=1) == dot[0].sum()).all()  # nothing else changed

    soft = blur(dot, 1)
    assert soft[0, 4, 3].max() == pytest.approx(200 / (2 * np.pi), rel=0.02)
    assert soft[0, 4, 4].max() == pytest.approx(200 / (2 * np.pi) * np.exp(-0.5), rel=0.04)
    assert (soft == soft[:1]).all()  # pictures do not run into one another


def test_a_sample_holds_each_picture_once(dataset: Dataset) -> None:
    numbered = Pictures(images=dataset.test.images, targets=np.arange(len(dataset.test)))
    few = sample(numbered, 100)
    assert len(set(few.targets.tolist())) == 100
    assert (few.images == dataset.test.images[few.targets]).all()
    assert sample(few, 100) is few


def test_all_that_is_found_out_about_the_shipped_model(tiny_dataset: Dataset) -> None:
    found = examine(SHIPPED, tiny_dataset)
    light = evaluate(SHIPPED, tiny_dataset)
    assert found.evaluation == light
    low, high = light.interval
    assert low < light.accuracy < high
    assert np.trace(found.confusion) == round(light.accuracy * 300)
    assert sum(map(sum, found.confusion)) == 300
    # The manifest says what validated it, so no test picture was spent on the temperature.
    assert (found.calibration.fitted_on, found.calibration.measured) == ("validation", 300)
    assert 0.8 < found.calibration.temperature < 1.25  # it was calibrated when it was trained

    assert found.robustness is not None
    clean, *disturbed = found.robustness
    assert clean.accuracy == light.accuracy
    assert len(disturbed) == sum(len(levels) for _, levels in LEVELS.values())
    for name in LEVELS:
        first, *_, last = (d for d in disturbed if d.disturbance == name)
        assert last.accuracy < first.accuracy - 0.02  # much is worse than little

    assert found.latency is not None
    one, many = found.latency
    assert (one.batch, many.batch) == (1, 32)
    assert 0 < one.median_ms <= one.p99_ms
    assert one.median_ms < many.median_ms
    assert one.cpu_ms > 0
    assert json.loads(json.dumps(found.as_dict()))["accuracy"] == light.accuracy


class Counting(EvaluatedModel):
    """Notes how many pictures each call brings."""

    kind = "run"

    def __init__(self) -> None:
        super().__init__("counting")
        self.calls: list[int] = []

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.calls.append(len(images))
        return np.ones((len(images), 1), np.float32)


def test_a_batch_is_full_however_few_the_pictures(tiny_dataset: Dataset) -> None:
    subject = Counting()
    found = latency(subject, tiny_dataset.test.first(5), batch=32)
    assert (found.batch, found.calls) == (32, 500)
    assert set(subject.calls) == {32}
    assert len(subject.calls) > found.calls  # the first ones warm up and do not count


def test_the_pictures_that_validated_the_shipped_model(dataset: Dataset) -> None:
    with open_model(SHIPPED, dataset) as subject:
        validation = subject.validation(dataset)
        assert validation is not None
        answers = subject.answers(validation, dataset.labels, lambda _: None)
        # Of another dataset's files nothing is known.
        assert subject.validation(replace(dataset, checksums={})) is None
    accuracy = (answers.argmax(axis=1) == validation.targets).mean()
    manifest = json.loads((SHIPPED / MANIFEST).read_text())
    assert accuracy == pytest.approx(manifest["metrics"]["validation"]["accuracy"], abs=3e-4)


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_an_endpoint_fares_like_its_file(
    scheme: str, server: RunningServer, tiny_dataset: Dataset
) -> None:
    file = evaluate(SHIPPED, tiny_dataset)
    with Client(server.address(scheme), model=NAME) as client:
        live = examine(client, tiny_dataset, thorough=False)
    assert live.evaluation.accuracy == file.accuracy
    assert live.evaluation.classes == file.classes
    assert live.evaluation.calibration_error == pytest.approx(file.calibration_error, abs=1e-3)
    assert live.subject["version"] == 1
    assert ("gRPC" if scheme == "grpc" else "REST") in live.clock
    assert live.calibration.fitted_on == "half of test"


def test_a_run_keeps_its_evaluation(run: Path, small_dataset: Dataset) -> None:
    found = examine(run, small_dataset, thorough=False)
    kept = json.loads((run / "evaluation.json").read_text())
    assert kept["accuracy"] == found.evaluation.accuracy
    assert kept["interval"] == list(found.evaluation.interval)
    assert (found.calibration.fitted_on, found.calibration.fitted) == ("validation", 500)


def test_other_classes_are_refused(run: Path, server: RunningServer, tiny_dataset: Dataset) -> None:
    other_labels = replace(tiny_dataset, labels=("Cap", *tiny_dataset.labels[1:]))
    for what in (run, SHIPPED):
        with pytest.raises(RunError, match="knows other classes than fashion_mnist"):
            evaluate(what, other_labels)
    with (
        Client(server.grpc, model=NAME) as client,
        pytest.raises(RunError, match="'T-shirt/top' is its class 0"),
    ):
        evaluate(client, other_labels)
    more = replace(tiny_dataset, labels=(*tiny_dataset.labels, "Cap"))
    with (
        Client(server.grpc, model=NAME) as client,
        pytest.raises(RunError, match="another number of classes"),
    ):
        evaluate(client, more)


def test_pictures_of_another_size_are_refused(tiny_dataset: Dataset) -> None:
    test = tiny_dataset.test
    large = Pictures(images=np.repeat(test.images, 2, axis=1), targets=test.targets)
    with pytest.raises(RunError, match=r"takes pictures of 28 x 28, and those .* are 56 x 28"):
        evaluate(SHIPPED, replace(tiny_dataset, test=large))


def test_what_is_no_probability_is_refused(tiny_dataset: Dataset) -> None:
    for spoil, words in ((np.nan, "diverged"), (3.0, "do not sum to 1")):
        with open_model(SHIPPED, tiny_dataset) as subject:
            answers = subject.probabilities(tiny_dataset.test.images)
            spoilt = answers * np.float32(spoil)
            with pytest.raises(RunError, match=words):
                subject._checked(spoilt, answers.shape)


def test_a_server_that_is_away_or_knows_no_such_model(
    server: RunningServer, tiny_dataset: Dataset
) -> None:
    with (
        Client(f"grpc://127.0.0.1:{free_port()}", model=NAME, timeout=1) as client,
        pytest.raises(ConnectionFailed),
    ):
        evaluate(client, tiny_dataset)
    with Client(server.http, model="nosuch") as client, pytest.raises(ModelNotFound):
        evaluate(client, tiny_dataset)


def test_a_spoilt_savedmodel_is_refused(tiny_dataset: Dataset, tmp_path: Path) -> None:
    folder = tmp_path / "candidate"
    shutil.copytree(SHIPPED, folder)
    with (folder / "saved_model.pb").open("ab") as file:
        file.write(b"x")
    with pytest.raises(CandidateError, match="not as it was exported"):
        evaluate(folder, tiny_dataset)


def test_a_manifest_that_tells_nothing_of_the_training(
    tiny_dataset: Dataset, tmp_path: Path
) -> None:
    folder = tmp_path / "candidate"
    shutil.copytree(SHIPPED, folder)
    manifest = json.loads((folder / MANIFEST).read_text())
    few = {key: manifest[key] for key in ("name", "labels")}
    (folder / MANIFEST).write_text(json.dumps({**few, "sha256": checksums(folder)}))
    found = examine(folder, tiny_dataset, thorough=False)
    assert found.calibration.fitted_on == "half of test"
    assert found.evaluation.accuracy == evaluate(SHIPPED, tiny_dataset).accuracy


def test_the_command_on_a_live_server(server: RunningServer, dataset: Dataset) -> None:
    done = servable("evaluate", server.grpc, "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["kind"], answer["version"], answer["count"]) == ("endpoint", 1, 10_000)
    assert answer["accuracy"] == evaluate(SHIPPED, dataset).accuracy
    assert answer["interval"][0] < answer["accuracy"] < answer["interval"][1]
    assert answer["robustness"] is None


@pytest.mark.parametrize(
    ("arguments", "words", "hint"),
    [
        ([SHIPPED.parent], "is a model with its versions", f"name one of them: {SHIPPED}"),
        (["nowhere"], "nowhere holds no training run", "a server's address has a scheme"),
        ([SHIPPED, "--report", "page.txt"], "no name of an HTML file", "name it page.html"),
        ([SHIPPED, "--report", "/dev/null/a.html"], "cannot write", ""),
    ],
)
def test_what_cannot_be_evaluated_or_written(
    arguments: list[object], words: str, hint: str, tmp_path: Path
) -> None:
    done = servable("evaluate", *arguments, cwd=tmp_path)
    assert words in only_sentence(done)
    assert hint in done.stderr
    assert not list(tmp_path.iterdir())


def test_what_is_asked_wrongly() -> None:
    for arguments in ([SHIPPED, "--version", "1"], ["ftp://localhost"]):
        done = servable("evaluate", *arguments)
        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr
