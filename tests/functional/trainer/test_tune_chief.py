"""A chief and its workers, in one process and without networks: who gets which trial, and when."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from keras_tuner.engine.trial import TrialStatus
from tests.conftest import free_port
from tests.functional.trainer.searches import Tiny

from servable_trainer.tuning.distributed.chief import Chief
from servable_trainer.tuning.distributed.roles import role_from
from servable_trainer.tuning.distributed.worker import ChiefConnection, ChiefUnavailable
from servable_trainer.tuning.progress import SearchProgress
from servable_trainer.tuning.project import Project, SearchBudget, SearchSettings
from servable_trainer.tuning.protocol import Outcome, StopSignal
from servable_trainer.tuning.results import completed, ended
from servable_trainer.tuning.search_folder import SearchFolder
from servable_trainer.tuning.subject import subject_of
from servable_trainer.tuning.trials import TuneError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from servable_trainer.data.dataset import Dataset

DONE = Outcome(
    metrics={"val_accuracy": 0.5, "loss": 1.0},
    notes={"epochs": [{"val_accuracy": 0.5, "loss": 1.0}], "seconds": 1.5},
)
FAILED = Outcome(notes={"error": "ValueError: why", "traceback": "Traceback: why", "seconds": 0.1})


class Running:
    """A chief in a thread of its own."""

    def __init__(self, dataset: Dataset, folder: Path, watchdog: float, **budget: Any) -> None:
        subject = subject_of(dataset, Tiny(size=(28, 28), classes=10), input_range=None)
        self.project = Project(subject, SearchSettings(epochs=1, subset=200))
        self.folder = SearchFolder(folder)
        self.stop = StopSignal()
        self.watchdog = watchdog
        self.address = f"127.0.0.1:{free_port()}"
        limits = SearchBudget(**budget)
        self.oracle = self.project.open(self.folder, limits, overwrite=False)
        self.chief = Chief(
            self.oracle,
            self.project,
            folder=self.folder,
            budget=limits,
            stop=self.stop,
            progress=SearchProgress(),
            watchdog=watchdog,
        )
        self.thread = threading.Thread(target=self.chief.serve, args=(self.address,))
        self.thread.start()

    @contextmanager
    def worker(self, name: str, **said: Any) -> Iterator[ChiefConnection]:
        """A worker that has joined."""
        stop = StopSignal()
        connection = ChiefConnection(self.address, name, patience=10, stop=stop)
        identity = {k: v for k, v in self.project.identity.items() if k != "settings"}
        try:
            connection.join(said.pop("identity", identity), said)
            connection.stop = stop  # type: ignore[attr-defined]
            yield connection
        finally:
            connection.close()

    def wait(self) -> None:
        self.thread.join(60)
        assert not self.thread.is_alive()


@pytest.fixture
def running(small_dataset: Dataset, tmp_path: Path) -> Iterator[Any]:
    """A function that starts a chief."""
    begun: list[Running] = []

    def start(*, watchdog: float = 30.0, **budget: Any) -> Running:
        begun.append(Running(small_dataset, tmp_path, watchdog, **budget))
        return begun[-1]

    yield start
    for one in begun:
        one.stop.request("workers")  # nobody is there to be told
        one.thread.join(60)


def run_all(connection: ChiefConnection, outcome: Outcome = DONE) -> list[str]:
    """Run what the chief hands out, until it has no more."""
    names = []
    while (trial := connection.next_trial()).status != TrialStatus.STOPPED:
        if trial.status == TrialStatus.IDLE:
            time.sleep(0.05)
            continue
        names.append(trial.trial_id)
        connection.report(trial, outcome)
    return names


def test_two_workers_share_the_trials_and_both_hear_of_the_end(running: Any) -> None:
    chief = running(trials=6)
    names: dict[str, list[str]] = {}
    with chief.worker("one") as one, chief.worker("two") as two:
        threads = [
            threading.Thread(
                target=lambda connection=connection: names.update(
                    {connection.name: run_all(connection)}
                )
            )
            for connection in (one, two)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        chief.wait()
    assert sorted(names["one"] + names["two"]) == [f"{n:04d}" for n in range(6)]
    trials = completed(chief.oracle)
    assert {trial.name: trial.worker for trial in trials} == {
        name: worker for worker, own in names.items() for name in own
    }
    assert {trial.score for trial in trials} == {0.5}
    assert {trial.seconds for trial in trials} == {1.5}
    # What was asked for and what was run is the same to the last digit.
    for trial in trials:
        rate = chief.oracle.trials[trial.name].hyperparameters.values["learning_rate"]
        assert trial.hyperparameters["learning_rate"] == rate


def test_why_a_trial_failed_comes_over(running: Any) -> None:
    chief = running(trials=9)
    with chief.worker("one") as one:
        run_all(one, FAILED)
        chief.wait()
    assert chief.stop.reason == "failures"
    failed = ended(chief.oracle)
    assert [trial.error for trial in failed] == ["ValueError: why"] * 3
    assert chief.oracle.trials[failed[0].name].message == "Traceback: why"


def test_the_trial_of_a_worker_that_dies_is_given_to_another(running: Any) -> None:
    chief = running(watchdog=2.0, trials=2)
    with chief.worker("two") as two:
        with chief.worker("one") as one:
            lost = one.next_trial().trial_id
        # It has hung up without a word; the other is kept waiting until it counts as dead.
        names = run_all(two)
        chief.wait()
    assert sorted(names) == ["0000", "0001"]
    assert lost in names
    assert len(completed(chief.oracle)) == 2


def test_a_worker_that_leaves_gives_its_trial_back_at_once(running: Any) -> None:
    chief = running(trials=1)
    with chief.worker("one") as one, chief.worker("two") as two:
        lost = one.next_trial().trial_id
        assert two.next_trial().status == TrialStatus.IDLE
        one.leave()
        assert two.next_trial().trial_id == lost
        one._beats.join(60)
        assert one.failure is None


def test_a_heartbeat_that_is_late_for_the_end_does_no_harm(running: Any) -> None:
    chief = running(trials=1)
    with chief.worker("one") as one, chief.worker("two") as two:
        run_all(one)  # the chief stays for the other, and so do this one's heartbeats
        known = chief.chief._workers["one"]
        heard = known.heard
        while known.heard == heard:
            time.sleep(0.05)
        assert one.failure is None
        assert run_all(two) == []
        chief.wait()


def test_a_worker_that_was_only_slow_is_taken_back_without_its_trial(running: Any) -> None:
    chief = running(watchdog=1.0, trials=1)
    with chief.worker("slow") as slow:
        trial = slow.next_trial()
        slow._over.set()  # no more heartbeats
        slow._beats.join()
        with chief.worker("two") as two:
            while two.next_trial().trial_id != trial.trial_id:
                time.sleep(0.05)
            slow.report(trial, DONE)  # too late: it does not count
            assert slow.ended == 0
            assert not completed(chief.oracle)
            assert slow.next_trial().status == TrialStatus.IDLE


def test_a_namesake_takes_over(running: Any) -> None:
    chief = running(trials=9)
    with chief.worker("one") as first:
        trial = first.next_trial().trial_id
        with chief.worker("one") as second:
            assert second.next_trial().trial_id == trial
            with pytest.raises(ChiefUnavailable, match="does not know worker one any more"):
                first.next_trial()


def test_the_heartbeat_breaks_off_a_trial_when_the_minutes_are_over(running: Any) -> None:
    chief = running(minutes=0.05)
    with chief.worker("one") as one:
        one.stop.begin_trial()
        trial = one.next_trial()
        assert trial.status == TrialStatus.RUNNING
        while not one.stop._trial:
            time.sleep(0.05)
        one.return_trial(trial)
        assert one.next_trial().status == TrialStatus.STOPPED
        chief.wait()
    assert chief.stop.reason == "minutes"
    assert chief.oracle._retry_queue == [trial.trial_id]


def test_without_workers_the_chief_ends(running: Any) -> None:
    chief = running(watchdog=1.0, trials=1)
    chief.wait()
    assert chief.stop.reason == "workers"


def test_a_worker_of_another_search_is_refused(running: Any) -> None:
    chief = running(trials=1)
    identity = dict(chief.project.identity)
    del identity["settings"]
    other = {**identity, "data": {**identity["data"], "checksums": {"a": "b"}}}
    with (
        pytest.raises(TuneError, match="runs another search: the content of the data"),
        chief.worker("one", identity=other),
    ):
        pass
    with (
        pytest.raises(TuneError, match="epochs 1 at the chief, 5 at this worker"),
        chief.worker("one", epochs=5),
    ):
        pass
    with chief.worker("one", epochs=1) as one:  # the same is no harm
        assert run_all(one) == ["0000"]


def test_a_chief_that_is_not_there() -> None:
    connection = ChiefConnection(f"127.0.0.1:{free_port()}", "one", patience=1.0, stop=StopSignal())
    with pytest.raises(ChiefUnavailable, match="has not answered for 1 seconds"):
        connection.join({}, {})
    connection.close()


def test_a_chief_that_goes_away_while_a_trial_runs(running: Any) -> None:
    chief = running(trials=9)
    with chief.worker("one") as one:
        one._patience = 1.0
        one.next_trial()
        chief.stop.request("interrupted")
        chief.oracle.over = False  # as if it had died before it could say so
        chief.chief._workers.clear()
        chief.wait()
        one._beats.join(60)
        assert one.stop.reason == "chief"
        assert one.failure is not None


def test_a_port_that_is_taken(running: Any) -> None:
    chief = running(trials=1)
    with chief.worker("one"):
        pass
    with pytest.raises(TuneError, match="cannot listen at"):
        chief.chief.serve(chief.address)


def test_roles_from_keras_tuners_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    assert role_from() is None
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "192.0.2.7")
    with pytest.raises(TuneError, match="KERASTUNER_TUNER_ID and KERASTUNER_ORACLE_PORT must be"):
        role_from()
    monkeypatch.setenv("KERASTUNER_ORACLE_PORT", "8000")
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "chief")
    role = role_from()
    assert role is not None
    assert (role.chief, role.address) == (True, "192.0.2.7:8000")
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "tuner1")
    role = role_from()
    assert role is not None
    assert (role.chief, role.name) == (False, "tuner1")
    # What is said on the command line counts.
    role = role_from("worker", "[::1]:9", "two")
    assert role is not None
    assert (role.address, role.name) == ("[::1]:9", "two")
