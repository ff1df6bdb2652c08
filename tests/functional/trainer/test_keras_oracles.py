"""What the oracles decide and keep, without networks. KerasTuner imports Keras."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import keras_tuner
import pytest
from keras_tuner.engine.trial import TrialStatus

from servable_trainer.tuning.oracles import TUNERS, make_oracle
from servable_trainer.tuning.results import completed, ended, trial_of
from servable_trainer.tuning.trials import TuneError

if TYPE_CHECKING:
    from pathlib import Path


def space() -> keras_tuner.HyperParameters:
    hp = keras_tuner.HyperParameters()
    hp.Int("units", 1, 1000)
    hp.Float("rate", 1e-4, 1.0, sampling="log")
    return hp


def oracle(folder: Path, tuner: str = "random", *, limit: int | None = None, **options: Any) -> Any:
    made = make_oracle(
        tuner,
        folder=folder,
        space=space(),
        **{"epochs": 3, "seed": 5, "endless": False, **options},
    )
    made.reload()
    made.limit = limit
    return made


def finish(made: Any, worker: str, accuracy: float | None = 0.5) -> str:
    """Run the worker's next trial to its end; its name."""
    trial = made.create_trial(worker)
    assert trial.status == TrialStatus.RUNNING
    if accuracy is None:
        trial.status = TrialStatus.FAILED
    else:
        made.update_trial(trial.trial_id, {"val_accuracy": accuracy})
        trial.status = TrialStatus.COMPLETED
    made.end_trial(trial)
    return str(trial.trial_id)


def points(made: Any) -> list[dict[str, Any]]:
    return [trial.hyperparameters.values for trial in made.trials.values()]


def test_trials_end_at_the_limit(tmp_path: Path) -> None:
    made = oracle(tmp_path, limit=2)
    assert [finish(made, "w") for _ in range(2)] == ["0000", "0001"]
    assert made.create_trial("w").status == TrialStatus.STOPPED


def test_a_worker_waits_while_another_runs_the_last_trial(tmp_path: Path) -> None:
    made = oracle(tmp_path, limit=1)
    made.create_trial("one")
    assert made.create_trial("two").status == TrialStatus.IDLE


def test_a_search_that_is_over_starts_no_trial(tmp_path: Path) -> None:
    made = oracle(tmp_path)
    made.over = True
    assert made.create_trial("w").status == TrialStatus.STOPPED


def test_the_same_worker_gets_its_trial_again(tmp_path: Path) -> None:
    made = oracle(tmp_path)
    assert made.create_trial("w").trial_id == made.create_trial("w").trial_id


def test_a_returned_trial_goes_to_another_worker(tmp_path: Path) -> None:
    made = oracle(tmp_path, limit=1)
    first = made.create_trial("one")
    made.put_back("one")
    again = made.create_trial("two")
    assert again.trial_id == first.trial_id
    assert again.hyperparameters.values == first.hyperparameters.values


def test_returning_without_a_trial_does_nothing(tmp_path: Path) -> None:
    made = oracle(tmp_path)
    made.put_back("nobody")
    assert not made.trials


def test_a_trial_that_crashes_its_process_three_times_has_failed(tmp_path: Path) -> None:
    made = oracle(tmp_path, limit=1)
    for _ in range(3):
        name = made.create_trial("w").trial_id
        made.put_back("w", lost=True)
    assert made.trials[name].status == TrialStatus.FAILED
    assert "3 times" in made.notes[name]["error"]
    assert made.create_trial("w").status == TrialStatus.STOPPED


def test_returned_trials_never_fail(tmp_path: Path) -> None:
    made = oracle(tmp_path, limit=1)
    for _ in range(5):
        made.create_trial("w")
        made.put_back("w")
    assert made.create_trial("w").status == TrialStatus.RUNNING


@pytest.mark.parametrize("tuner", TUNERS)
def test_the_same_seed_tries_the_same_points(tmp_path: Path, tuner: str) -> None:
    one, other = (oracle(tmp_path / n, tuner) for n in "ab")
    for made in (one, other):
        for accuracy in (0.5, 0.6, 0.4):
            finish(made, "w", accuracy)
    assert points(one) == points(other)


def test_another_seed_tries_other_points(tmp_path: Path) -> None:
    one, other = (oracle(tmp_path / str(seed), seed=seed) for seed in (1, 2))
    for made in (one, other):
        finish(made, "w")
    assert points(one) != points(other)


def test_a_resumed_search_continues_with_the_next_point(tmp_path: Path) -> None:
    whole = oracle(tmp_path / "whole")
    for _ in range(3):
        finish(whole, "w")
    for count in (1, 2):
        part = oracle(tmp_path / "parts")
        for _ in range(count):
            finish(part, "w")
    assert points(part) == points(whole)


def test_a_trial_that_ran_is_repeated_after_a_crash(tmp_path: Path) -> None:
    name = oracle(tmp_path).create_trial("w").trial_id
    assert oracle(tmp_path).create_trial("other").trial_id == name


@pytest.mark.parametrize("damage", ["", "{", "[]", "{}"])
def test_a_damaged_state_is_rebuilt_from_the_trials(tmp_path: Path, damage: str) -> None:
    before = oracle(tmp_path)
    for accuracy in (0.4, 0.8):
        finish(before, "w", accuracy)
    (tmp_path / "oracle.json").write_text(damage)
    after = oracle(tmp_path)
    assert [trial.score for trial in completed(after)] == [0.8, 0.4]
    assert points(after) == points(before)


def test_a_damaged_trial_is_taken_from_the_state(tmp_path: Path) -> None:
    finish(oracle(tmp_path), "w", 0.4)
    (tmp_path / "trial_0000" / "trial.json").write_text("{")
    assert completed(oracle(tmp_path))[0].score == 0.4


def test_with_both_damaged_the_trial_has_failed_and_its_name_is_not_reused(tmp_path: Path) -> None:
    before = oracle(tmp_path)
    finish(before, "w")
    finish(before, "w")
    for name in ("oracle.json", "trial_0000/trial.json"):
        (tmp_path / name).write_text("{")
    after = oracle(tmp_path)
    assert [trial.name for trial in ended(after)] == ["0001", "0000"]
    assert finish(after, "w") == "0002"


def test_a_failed_write_is_reported_and_does_not_raise_within_the_oracle(tmp_path: Path) -> None:
    made = oracle(tmp_path)
    made.check()
    (tmp_path / "oracle.json").mkdir()
    made.create_trial("w")
    with pytest.raises(TuneError):
        made.check()


def test_consecutive_failures_are_counted_since_the_start(tmp_path: Path) -> None:
    made = oracle(tmp_path)
    finish(made, "w", None)
    finish(made, "w", 0.5)
    names = [finish(made, "w", None) for _ in range(2)]
    assert [trial.trial_id for trial in made.failed_in_a_row()] == names
    assert oracle(tmp_path).failed_in_a_row() == []


def test_hyperband_trains_its_best_trial_further(tmp_path: Path) -> None:
    made = oracle(tmp_path, "hyperband")
    for accuracy in (0.2, 0.9, 0.4):
        finish(made, "w", accuracy)
    values = made.create_trial("w").hyperparameters.values
    assert values["tuner/trial_id"] == "0001"
    assert (values["tuner/initial_epoch"], values["tuner/epochs"]) == (1, 3)


def test_hyperband_is_rebuilt_with_its_brackets(tmp_path: Path) -> None:
    made = oracle(tmp_path, "hyperband")
    for accuracy in (0.2, 0.9, 0.4):
        finish(made, "w", accuracy)
    (tmp_path / "oracle.json").write_text("")
    values = oracle(tmp_path, "hyperband").create_trial("w").hyperparameters.values
    assert values["tuner/trial_id"] == "0001"


def test_hyperband_ends_after_its_brackets_unless_it_is_endless(tmp_path: Path) -> None:
    def count(endless: bool, limit: int) -> int:
        made = oracle(tmp_path / str(endless), "hyperband", endless=endless, limit=limit)
        while len(made.end_order) < limit and made.create_trial("w").status == TrialStatus.RUNNING:
            finish(made, "w")
        return len(made.end_order)

    assert count(endless=False, limit=9) == 6
    assert count(endless=True, limit=9) == 9


def test_an_unknown_tuner_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TuneError) as caught:
        oracle(tmp_path, "psychic")
    assert all(name in str(caught.value.hint) for name in TUNERS)


def test_a_trial_with_its_notes(tmp_path: Path) -> None:
    made = oracle(tmp_path)
    name = finish(made, "w", 0.75)
    made.notes[name] = {"epochs": [{"loss": 1.0}], "seconds": 2.5, "worker": "one"}
    trial = trial_of(made, name)
    assert (trial.status, trial.score, trial.seconds) == ("completed", 0.75, 2.5)
    assert (trial.worker, trial.epochs) == ("one", [{"loss": 1.0}])
    assert set(trial.hyperparameters) == {"units", "rate"}
    json.dumps(trial.hyperparameters)


def test_failed_trials_come_last(tmp_path: Path) -> None:
    made = oracle(tmp_path)
    for accuracy in (None, 0.3, 0.9):
        finish(made, "w", accuracy)
    assert [trial.score for trial in ended(made)] == [0.9, 0.3, None]
