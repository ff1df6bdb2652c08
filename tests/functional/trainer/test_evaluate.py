"""Evaluating runs, SavedModels and live endpoints, on real images."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.conftest import NAME, SHIPPED, free_port, only_sentence
from tests.in_process import command

from servable_client import Client, ConnectionFailed, ModelNotFound
from servable_serving.repository.manifest import MANIFEST, CandidateError, checksums
from servable_trainer.data.dataset import Pictures
from servable_trainer.evaluation.evaluate import evaluate, examine
from servable_trainer.evaluation.evaluated_model import open_model
from servable_trainer.evaluation.robustness import LEVELS
from servable_trainer.training.run import RunError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import RunningServer

    from servable_trainer.data.dataset import Dataset


@pytest.fixture(scope="module")
def tiny_dataset(dataset: Dataset) -> Dataset:
    """All of what may be learnt from, and 300 pictures to test with."""
    return replace(dataset, test=dataset.test.first(300))


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


def test_the_images_that_validated_the_shipped_model(dataset: Dataset) -> None:
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


def test_a_run_keeps_its_evaluation(run: Path, small_dataset: Dataset, tmp_path: Path) -> None:
    copied = shutil.copytree(run, tmp_path / "run")
    (copied / "evaluation.json").unlink()
    found = examine(copied, small_dataset, thorough=False)
    kept = json.loads((copied / "evaluation.json").read_text())
    assert kept["accuracy"] == found.evaluation.accuracy
    assert kept["interval"] == list(found.evaluation.interval)
    assert (found.calibration.fitted_on, found.calibration.fitted) == ("validation", 500)


def test_other_classes_are_refused(run: Path, server: RunningServer, tiny_dataset: Dataset) -> None:
    other_labels = replace(tiny_dataset, labels=("Cap", *tiny_dataset.labels[1:]))
    for what in (run, SHIPPED):
        with pytest.raises(RunError, match="has other classes than fashion_mnist"):
            evaluate(what, other_labels)
    with (
        Client(server.grpc, model=NAME) as client,
        pytest.raises(RunError, match="'T-shirt/top' is its class 0"),
    ):
        evaluate(client, other_labels)
    more = replace(tiny_dataset, labels=(*tiny_dataset.labels, "Cap"))
    with (
        Client(server.grpc, model=NAME) as client,
        pytest.raises(RunError, match="expected"),
    ):
        evaluate(client, more)


def test_images_of_another_size_are_refused(tiny_dataset: Dataset) -> None:
    test = tiny_dataset.test
    large = Pictures(images=np.repeat(test.images, 2, axis=1), targets=test.targets)
    with pytest.raises(RunError, match=r"takes images of 28 x 28, but those .* are 56 x 28"):
        evaluate(SHIPPED, replace(tiny_dataset, test=large))


def test_what_is_no_probability_is_refused(tiny_dataset: Dataset) -> None:
    for spoil, words in ((np.nan, "NaN"), (3.0, "do not sum to 1")):
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


def test_the_command_on_a_live_server(server: RunningServer, small_data: Dataset) -> None:
    done = command("evaluate", server.grpc, "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["kind"], answer["version"], answer["count"]) == ("endpoint", 1, 1000)
    assert answer["accuracy"] == evaluate(SHIPPED, small_data).accuracy
    assert answer["interval"][0] < answer["accuracy"] < answer["interval"][1]
    assert answer["robustness"] is None


@pytest.mark.parametrize(
    ("arguments", "words", "hint"),
    [
        ([SHIPPED.parent], "is a directory of versions", f"choose one of them: {SHIPPED}"),
        (["nowhere"], "nowhere is not a training run", "`servable train` writes a run"),
        (["host:8500"], "host:8500 is not a training run", "needs a scheme: grpc://host:8500"),
        ([SHIPPED, "--report", "page.txt"], "is not an HTML file name", "name it page.html"),
        ([SHIPPED, "--report", "/dev/null/a.html"], "cannot write", ""),
    ],
)
def test_what_cannot_be_evaluated_or_written(
    arguments: list[object],
    words: str,
    hint: str,
    tmp_path: Path,
    small_data: Dataset,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert small_data.labels
    monkeypatch.chdir(tmp_path)
    done = command("evaluate", *arguments)
    assert words in only_sentence(done)
    assert hint in done.stderr
    assert not list(tmp_path.iterdir())


def test_usage_errors() -> None:
    for arguments in ([SHIPPED, "--version", "1"], ["ftp://localhost"]):
        done = command("evaluate", *arguments)
        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr


def test_the_command_writes_a_report(small_data: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    done = command("evaluate", SHIPPED, "--report", path, "--quick", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads(path.with_suffix(".json").read_text())
    page = path.read_text()
    assert f"{len(small_data.test):,} test images" in page
    assert "Latency" not in page  # --quick
