"""Searches in processes that are killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from tests.conftest import free_port
from tests.functional.trainer.searches import fixed, trials_in
from tests.in_process import command

if TYPE_CHECKING:
    from pathlib import Path

SMALL = ("--epochs", "1", "--subset", "100", *fixed())
WATCHDOG = 20


def start(log: Path, *arguments: object, **variables: str) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "servable_client", "tune", *map(str, arguments)],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **variables},
        )


def state_once_a_second_runs(folder: Path, *processes: subprocess.Popen[bytes]) -> dict[str, Any]:
    """The search's state, once it knows of trial 0001; the processes must run until then."""
    while True:
        with suppress(FileNotFoundError):
            state: dict[str, Any] = json.loads((folder / "search" / "oracle.json").read_text())
            if "0001" in [trial["trial_id"] for trial in state["trials"]]:
                return state
        assert all(process.poll() is None for process in processes)
        time.sleep(0.05)


def test_a_killed_search_is_resumed_and_counts_every_trial_once(tmp_path: Path) -> None:
    folder = tmp_path / "tuning"
    arguments = ("--minutes", "5", "--trials", "2", "--output", folder, *SMALL)
    process = start(tmp_path / "log", *arguments)
    state = state_once_a_second_runs(folder, process)
    process.kill()
    assert process.wait(60) == -9
    before, running = state["trials"]
    assert (before["status"], running["status"]) == ("COMPLETED", "RUNNING")
    assert not (folder / "trials.json").exists()

    done = command("tune", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    assert "1 trial completed in " in done.stderr
    found = json.loads(done.stdout)
    assert found["ended"] == "trials"
    assert found["trials"] == trials_in(folder)
    trials = {trial["name"]: trial for trial in found["trials"]}
    assert sorted(trials) == ["0000", "0001"]
    assert {trial["status"] for trial in trials.values()} == {"completed"}
    # The one that had ended was not run again; the one that was killed was, with the same values.
    notes = state["notes"]["0000"]
    assert trials["0000"]["seconds"] == notes["seconds"]
    assert trials["0000"]["score"] == before["score"]
    values = running["hyperparameters"]["values"]
    assert trials["0001"]["hyperparameters"] == values


def test_a_chief_whose_worker_is_killed_ends_and_is_resumed_with_others(tmp_path: Path) -> None:
    folder, port = tmp_path / "tuning", free_port()

    def processes(part: str, workers: int) -> list[subprocess.Popen[bytes]]:
        common = ("--output", folder, "--watchdog", WATCHDOG)
        address = ("--chief", f"127.0.0.1:{port}")
        variables = {
            "KERASTUNER_TUNER_ID": "two",
            "KERASTUNER_ORACLE_IP": "127.0.0.1",
            "KERASTUNER_ORACLE_PORT": str(port),
        }
        worker = ("--role", "worker", "--worker", "one")
        chief = start(
            tmp_path / f"{part}-chief",
            *("--role", "chief", "--trials", "2", *address, *common, *SMALL),
        )
        started = [chief, start(tmp_path / f"{part}-one", *worker, *address, *common)]
        if workers == 2:
            started.append(start(tmp_path / f"{part}-two", *common, **variables))
        return started

    chief, worker = processes("first", 1)
    state_once_a_second_runs(folder, chief, worker)
    worker.kill()
    worker.wait(60)
    assert chief.wait(300) == 1
    said = (tmp_path / "first-chief").read_text()
    assert "servable: no workers are left to run trials" in said
    assert "Traceback" not in said

    chief, *workers = processes("second", 2)
    assert [process.wait(300) for process in (chief, *workers)] == [0, 0, 0]
    trials = trials_in(folder)
    assert sorted(trial["name"] for trial in trials) == ["0000", "0001"]
    assert {trial["status"] for trial in trials} == {"completed"}
    assert {trial["worker"] for trial in trials} <= {"one", "two"}
    # Code after the search runs in the chief alone.
    for name in ("one", "two"):
        said = (tmp_path / f"second-{name}").read_text()
        assert f"worker {name} completed" in said
        assert "rank" not in said
    assert "rank" in (tmp_path / "second-chief").read_text()
