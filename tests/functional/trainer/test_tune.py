"""A search in one process: its results, resuming it, and what it refuses."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from tests.functional.trainer.searches import SMALLEST, Endless, Impossible, Odd, Tiny, trials_in
from tests.in_process import command

from servable_trainer.networks.classifier import ImageClassifier, hyperparameters_from
from servable_trainer.tuning.results import Interrupted, SearchFailed
from servable_trainer.tuning.trials import TuneError, load_hyperparameters
from servable_trainer.tuning.tune import tune

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from servable_trainer.data.dataset import Dataset

TINY = Tiny(size=(28, 28), classes=10)
QUICK: dict[str, Any] = {"epochs": 1, "subset": 200, "classifier": TINY}


@pytest.fixture(scope="module")
def searched(small_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search of four random points."""
    folder = tmp_path_factory.mktemp("searched")
    found = tune(small_dataset, directory=folder, trials=4, **QUICK)
    accuracies = [trial.score or 0 for trial in found]
    assert accuracies == sorted(accuracies, reverse=True)
    assert len({str(trial.hyperparameters) for trial in found}) == 4
    return folder


@pytest.fixture
def folder(searched: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    copy = tmp_path / "copy"
    shutil.copytree(searched, copy)
    return copy


def test_the_results_say_everything(searched: Path) -> None:
    found = json.loads((searched / "trials.json").read_text())
    assert found["ended"] == "trials"
    assert found["search"]["settings"] == {
        "tuner": "random", "epochs": 1, "subset": 200, "seed": 0, "fixed": {},
        "objective": None,
    }  # fmt: skip
    for trial in found["trials"]:
        assert 4 <= trial["hyperparameters"]["units"] <= 64
        (epoch,) = trial["epochs"]
        assert epoch["val_accuracy"] == trial["score"]
        assert trial["seconds"] > 0
    page = (searched / "trials.html").read_text()
    assert page.count('<g id="trial-') == 4
    assert "//" not in page  # it fetches nothing


def test_the_best_trial_is_what_train_takes(small_dataset: Dataset, tmp_path: Path) -> None:
    tune(small_dataset, directory=tmp_path, trials=1, epochs=1, subset=200, fixed=SMALLEST)
    values = load_hyperparameters(tmp_path / "trials.json")
    assert values.items() >= SMALLEST.items()
    hyperparameters_from(values, ImageClassifier(size=(28, 28), classes=10))


@pytest.mark.parametrize(
    "content", ["", "[]", "7", '[{"a": 1}]', '{"format": 1, "trials": []}', '{"trials": []}']
)
def test_a_file_that_holds_no_hyperparameters(content: str, tmp_path: Path) -> None:
    path = tmp_path / "trials.json"
    path.write_text(content)
    with pytest.raises(TuneError, match="does not hold hyperparameters"):
        load_hyperparameters(path)


def test_files_of_hyperparameters_that_are_read(tmp_path: Path) -> None:
    path = tmp_path / "values.json"
    for content in ({"width": 8}, [{"hyperparameters": {"width": 8}}]):
        path.write_text(json.dumps(content))
        assert load_hyperparameters(path) == {"width": 8}
    path.write_text('{"format": 3, "trials": [{"hyperparameters": {"width": 8}}]}')
    with pytest.raises(TuneError, match="has format 3"):
        load_hyperparameters(path)


def test_more_trials_go_on_from_those_that_are_there(
    folder: Path, searched: Path, small_dataset: Dataset
) -> None:
    before = {trial["name"]: trial for trial in trials_in(searched)}
    tune(small_dataset, directory=folder, trials=5, **QUICK)
    after = {trial["name"]: trial for trial in trials_in(folder)}
    assert len(after) == 5
    # Not one of them was run again: its time would be another.
    assert {name: after[name] for name in before} == before


def test_a_search_in_parts_tries_what_one_in_a_piece_does(
    searched: Path, small_dataset: Dataset, tmp_path: Path
) -> None:
    for count in (1, 3):
        tune(small_dataset, directory=tmp_path, trials=count, **QUICK)
    whole = {trial["name"]: trial["hyperparameters"] for trial in trials_in(searched)}
    parts = {trial["name"]: trial for trial in trials_in(tmp_path)}
    assert {name: parts[name]["hyperparameters"] for name in parts} == {
        name: whole[name] for name in parts
    }
    # The seed of a trial is its own, so that its result does not depend on what ran before.
    accuracies = {trial["name"]: trial["score"] for trial in trials_in(searched)}
    assert all(parts[name]["score"] == accuracies[name] for name in parts)


@pytest.mark.parametrize("keep", [0, 1, 40])
def test_a_state_that_was_cut_short_is_made_again(
    keep: int, folder: Path, searched: Path, small_dataset: Dataset
) -> None:
    state = folder / "search" / "oracle.json"
    state.write_bytes(state.read_bytes()[:keep])
    found = tune(small_dataset, directory=folder, trials=4, **QUICK)
    assert [vars(trial) for trial in found] == trials_in(searched)


def test_a_trial_whose_record_was_cut_short_is_in_the_state(
    folder: Path, searched: Path, small_dataset: Dataset
) -> None:
    record = folder / "search" / "trial_0002" / "trial.json"
    record.write_bytes(record.read_bytes()[:30])
    found = tune(small_dataset, directory=folder, trials=4, **QUICK)
    assert [vars(trial) for trial in found] == trials_in(searched)


def test_with_both_cut_short_the_others_are_kept(
    folder: Path, searched: Path, small_dataset: Dataset
) -> None:
    for name in ("oracle.json", "trial_0002/trial.json"):
        (folder / "search" / name).write_text("{")
    tune(small_dataset, directory=folder, trials=5, **QUICK)
    before = {trial["name"]: trial for trial in trials_in(searched)}
    after = {trial["name"]: trial for trial in trials_in(folder)}
    assert sorted(after) == ["0000", "0001", "0002", "0003", "0004"]
    assert after.pop("0002")["error"] == "its record was damaged"
    new = after.pop("0004")
    assert all(after[name] == before[name] for name in after)
    assert new["hyperparameters"] not in [one["hyperparameters"] for one in before.values()]


def test_hyperband_trains_its_best_further_across_parts_and_damage(
    small_dataset: Dataset, tmp_path: Path
) -> None:
    options = {**QUICK, "tuner": "hyperband", "epochs": 3}
    for count in (2, 4):
        tune(small_dataset, directory=tmp_path, trials=count, **options)
        (tmp_path / "search" / "oracle.json").write_text("")
    # Brackets of epochs 1 and 3: three trials of one epoch, whose best goes on; then two of three.
    found = tune(small_dataset, directory=tmp_path, **options)
    assert len(found) == 6
    trials = {trial.name: trial for trial in found}
    first = [trials[name] for name in ("0000", "0001", "0002")]
    best = max(first, key=lambda trial: trial.score or 0)
    (on,) = [trial for trial in found if trial.continues]
    assert (on.continues, on.first_epoch, len(on.epochs)) == (best.name, 1, 2)
    assert on.hyperparameters == best.hyperparameters
    # It had the weights, and did not begin anew.
    assert on.epochs[0]["loss"] < best.epochs[0]["loss"]
    assert [len(trials[name].epochs) for name in ("0004", "0005")] == [3, 3]


def test_hyperband_without_the_weights_begins_from_the_beginning(
    small_dataset: Dataset, tmp_path: Path
) -> None:
    options = {**QUICK, "tuner": "hyperband", "epochs": 3}
    tune(small_dataset, directory=tmp_path, trials=3, **options)
    for weights in tmp_path.glob("search/*/weights.npz"):
        weights.unlink()
    found = tune(small_dataset, directory=tmp_path, trials=4, **options)
    (on,) = [trial for trial in found if trial.continues]
    assert (on.first_epoch, len(on.epochs)) == (0, 3)


def test_bayesian_search_goes_beyond_its_random_points(
    small_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("servable_trainer.tuning.oracles._RANDOM_POINTS", 2)
    pinned = {
        "optimizer": "adamw", "schedule": "cosine", "batch_size": 128, "ema": 0.0, "mixup": 0.0,
        "label_smoothing": 0.0, "weight_decay": 0.01,
    }  # fmt: skip
    options = {**QUICK, "tuner": "bayesian", "fixed": pinned}
    tune(small_dataset, directory=tmp_path, trials=3, **options)
    tune(small_dataset, directory=tmp_path, trials=4, **options)  # its state can be written
    assert len(trials_in(tmp_path)) == 4
    assert all(trial["hyperparameters"].items() >= pinned.items() for trial in trials_in(tmp_path))


def test_minutes_end_a_search_within_a_trial_and_count_over_its_parts(
    small_dataset: Dataset, tmp_path: Path
) -> None:
    options = {**QUICK, "classifier": Endless(ending=2)}
    tune(small_dataset, directory=tmp_path, trials=1, **options)
    spent = json.loads((tmp_path / "search.json").read_text())["seconds"]
    minutes = (spent + 4) / 60
    found = tune(small_dataset, directory=tmp_path, minutes=minutes, **options)
    assert [(trial.name, trial.status) for trial in found if trial.name < "0002"] == [
        (trial.name, "completed") for trial in found
    ]
    record = json.loads((tmp_path / "trials.json").read_text())
    assert record["ended"] == "minutes"
    assert record["seconds"] >= spent + 4
    # Nothing is left of them.
    assert tune(small_dataset, directory=tmp_path, minutes=minutes, **options) == found
    # The trial that was broken off is run again with more.
    tune(small_dataset, directory=tmp_path, trials=3, **{**options, "classifier": TINY})
    assert [trial["status"] for trial in trials_in(tmp_path)] == ["completed"] * 3


def test_minutes_too_few_for_a_single_trial(small_dataset: Dataset, tmp_path: Path) -> None:
    options = {**QUICK, "classifier": Endless(ending=0)}
    with pytest.raises(SearchFailed, match=r"completed within 0\.02 minutes"):
        tune(small_dataset, directory=tmp_path, minutes=0.02, **options)
    assert trials_in(tmp_path) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"epochs": 2}, "epochs 1 there, 2 here"),
        ({"subset": 300}, "subset 200 there, 300 here"),
        ({"seed": 3}, "seed 0 there, 3 here"),
        ({"tuner": "bayesian"}, "tuner random there, bayesian here"),
        ({"fixed": {"units": 8}}, "fixed none there, units=8 here"),
        ({"classifier": ImageClassifier(size=(28, 28), classes=10)}, "the space of hyperparam"),
    ],
)
def test_another_search_is_refused_and_what_is_there_is_kept(
    change: dict[str, Any], words: str, searched: Path, small_dataset: Dataset
) -> None:
    before = {p: p.read_bytes() for p in searched.rglob("*.json")}
    with pytest.raises(TuneError, match="holds another search") as caught:
        tune(small_dataset, directory=searched, trials=9, **{**QUICK, **change})
    assert words in str(caught.value)
    assert "--overwrite" in str(caught.value.hint)
    assert {p: p.read_bytes() for p in searched.rglob("*.json")} == before


def test_other_data_or_code_is_refused(
    searched: Path, small_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = replace(small_dataset, checksums={"train": "0" * 64})
    with pytest.raises(TuneError, match=r"(?m)search: the content of the data$"):
        tune(other, directory=searched, trials=9, **QUICK)
    monkeypatch.setattr("servable_trainer.networks.format_version.FORMAT_VERSION", 0)
    with pytest.raises(TuneError, match=r"(?m)search: the code of the network$"):
        tune(small_dataset, directory=searched, trials=9, **QUICK)


def test_overwrite_takes_away_the_search_and_nothing_else(
    folder: Path, small_dataset: Dataset
) -> None:
    (folder / "notes.txt").write_text("mine")
    tune(small_dataset, directory=folder, trials=1, overwrite=True, **{**QUICK, "seed": 9})
    assert len(trials_in(folder)) == 1
    assert (folder / "notes.txt").read_text() == "mine"


def test_a_folder_of_an_unknown_search_is_refused(folder: Path, small_dataset: Dataset) -> None:
    (folder / "search.json").write_text("{")
    with pytest.raises(TuneError, match="its record is damaged"):
        tune(small_dataset, directory=folder, **QUICK)
    (folder / "search.json").unlink()
    with pytest.raises(TuneError, match="its record is missing"):
        tune(small_dataset, directory=folder, **QUICK)


def test_a_space_without_a_valid_trial(small_dataset: Dataset, tmp_path: Path) -> None:
    options = {**QUICK, "classifier": Impossible(size=(28, 28), classes=10)}
    with pytest.raises(SearchFailed, match="3 consecutive trials failed, the first") as caught:
        tune(small_dataset, directory=tmp_path, **options)
    trials = trials_in(tmp_path)
    assert [trial["status"] for trial in trials] == ["failed"] * 3
    assert trials[0]["error"] in str(caught.value)
    assert trials[0]["error"].startswith("ValueError: no network has ")
    with pytest.raises(TuneError, match="no trial in"):
        load_hyperparameters(tmp_path / "trials.json")


def test_a_trial_that_fails_is_kept_as_failed(small_dataset: Dataset, tmp_path: Path) -> None:
    found = tune(
        small_dataset,
        directory=tmp_path,
        trials=4,
        **{**QUICK, "classifier": Odd(size=(28, 28), classes=10)},
    )
    failed = [trial for trial in found if trial.status == "failed"]
    assert 0 < len(failed) < 4
    assert failed == found[-len(failed) :]
    assert all(trial.hyperparameters["units"] % 2 for trial in failed)
    assert failed[0].error == "ValueError: an odd number of units"
    assert "an odd number of units" in (tmp_path / "trials.html").read_text()


def test_a_folder_that_cannot_be_written(small_dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TuneError, match="cannot write"):
        tune(small_dataset, directory=tmp_path / "file", **QUICK)


def test_two_searches_do_not_share_a_folder(folder: Path, small_dataset: Dataset) -> None:
    from servable_trainer.tuning.search_folder import SearchFolder

    with (
        SearchFolder(folder).held(),
        pytest.raises(TuneError, match="another process is searching in"),
    ):
        tune(small_dataset, directory=folder, trials=9, **QUICK)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 KiB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", tmp_path],
        check=False,
        capture_output=True,
    )
    if done.returncode:
        pytest.skip(f"cannot mount: {done.stderr!r}")
    yield tmp_path
    subprocess.run(["umount", tmp_path], check=True)


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def test_a_disk_that_fills(small_disk: Path, small_dataset: Dataset) -> None:
    folder, ballast = small_disk / "search", small_disk / "ballast"

    class Filling(Tiny):
        def fit(self, *args: Any, **kwargs: Any) -> Any:
            with pytest.raises(OSError, match="No space"):
                fill(ballast)
            return super().fit(*args, **kwargs)

    tune(small_dataset, directory=folder, trials=1, **QUICK)
    before = trials_in(folder)
    with pytest.raises(SearchFailed, match=r"cannot write .*No space left") as caught:
        tune(
            small_dataset,
            directory=folder,
            trials=2,
            **{**QUICK, "classifier": Filling(size=(28, 28), classes=10)},
        )
    assert "free some space" in str(caught.value.hint)
    assert trials_in(folder) == before
    # There is no room to begin either.
    with pytest.raises(TuneError, match=r"cannot write .*No space left"):
        tune(small_dataset, directory=folder, trials=2, **QUICK)
    ballast.unlink()
    found = tune(small_dataset, directory=folder, trials=2, **QUICK)
    assert len(found) == 2
    assert before[0] in [vars(trial) for trial in found]


def test_ctrl_c_ends_with_what_is_done(folder: Path, small_dataset: Dataset) -> None:
    def press() -> None:
        while len(list((folder / "search").glob("trial_*"))) < 5:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    threading.Thread(target=press, daemon=True).start()
    with pytest.raises(Interrupted) as caught:
        tune(
            small_dataset,
            directory=folder,
            trials=9,
            **{**QUICK, "classifier": Endless(ending=0)},
        )
    assert caught.value.status == 130
    assert signal.getsignal(signal.SIGINT) is before
    assert len(trials_in(folder)) == 4
    assert json.loads((folder / "trials.json").read_text())["ended"] == "interrupted"
    # The one that was broken off is run again, and is no failure.
    tune(small_dataset, directory=folder, trials=5, **QUICK)
    assert [trial["status"] for trial in trials_in(folder)] == ["completed"] * 5


def test_a_trial_that_takes_its_process_with_it_is_given_up(
    small_dataset: Dataset, tmp_path: Path
) -> None:
    tune(small_dataset, directory=tmp_path, trials=1, **QUICK)
    state = tmp_path / "search" / "oracle.json"
    content = json.loads(state.read_text())
    # As after a second kill in the middle of the first trial.
    content["trials"][0] |= {"status": "RUNNING", "score": None}
    content |= {"ongoing_trials": {"here": "0000"}, "run_times": {"0000": 2}, "end_order": []}
    state.write_text(json.dumps(content))
    found = tune(small_dataset, directory=tmp_path, trials=2, **QUICK)
    assert [(trial.name, trial.status) for trial in found] == [
        ("0001", "completed"), ("0000", "failed")
    ]  # fmt: skip
    assert found[1].error == "its process crashed 3 times"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--fix", "width"], "'width' is not NAME=VALUE"),
        (["--tuner", "psychic"], "psychic"),
        (["--role", "worker"], "--chief HOST:PORT"),
        (["--role", "chief", "--chief", "nowhere"], "invalid address 'nowhere'"),
        (["--chief", "127.0.0.1:1"], "needs a role"),
        (["--role", "worker", "--chief", "127.0.0.1:1", "--worker", "a b"], "invalid worker name"),
    ],
)
def test_usage_errors(arguments: list[str], words: str, tmp_path: Path) -> None:
    done = command("tune", "--output", tmp_path / "out", *arguments)
    assert done.returncode == 2
    assert words in " ".join(done.stderr.split())
    assert not (tmp_path / "out").exists()


def test_a_hyperparameter_that_cannot_be_fixed(tmp_path: Path) -> None:
    done = command("tune", "--output", tmp_path / "out", "--fix", "width=7")
    assert done.returncode == 2
    assert "--fix: width is 7, but must be [8, 16, 24, 32, 48, 64]" in " ".join(done.stderr.split())
    assert not (tmp_path / "out").exists()
