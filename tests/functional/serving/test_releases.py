"""Push, promote and roll back, at a real server."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.conftest import free_port, only_sentence, serving
from tests.forked import servable
from tests.functional.serving.calls import eventually
from tests.functional.serving.candidates import sign
from tests.functional.serving.fixture_models import add_warmup
from tests.functional.serving.releases import FLAGS, UNGATED, Stage, skipping, with_ballast

from servable_client import Client
from servable_serving.core.errors import FolderError
from servable_serving.repository.candidate import Candidate
from servable_serving.repository.manifest import MANIFEST
from servable_serving.repository.store import Store, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def visible(stage: Stage) -> list[str]:
    kept = (".lock", ".history.jsonl")
    return sorted(p.name for p in stage.path.iterdir() if p.name not in kept)


def test_the_first_is_stable_the_next_is_canary_and_is_promoted(stage: Stage) -> None:
    assert stage.push(1) == 1
    assert stage.resolved("stable") == 1
    assert stage.push(2) == 2
    assert (stage.resolved("stable"), stage.resolved("canary")) == (1, 2)
    done = servable("promote", "2", *stage.moving(), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["labels"] == {"canary": 2, "stable": 2}
    assert stage.resolved("stable") == 2
    # What was stable stays, and going back to it loads nothing.
    assert stage.states()[1] == "AVAILABLE"
    done = servable("rollback", *stage.moving())
    assert done.returncode == 0, done.stderr
    assert stage.resolved("stable") == 1
    with stage.client(label="stable") as client:
        assert client.classify(np.zeros([28, 28], np.uint8)).class_id == 1
    assert "nothing was promoted before version 1" in only_sentence(
        servable("rollback", *stage.moving())
    )
    what = [(e["what"], e["version"]) for e in stage.repository.history() if "label" in e]
    assert what == [("push", 1), ("push", 2), ("promote", 2), ("rollback", 1)]


def test_what_no_label_needs_is_unloaded_and_stays_in_the_repository(stage: Stage) -> None:
    for favourite in (1, 2, 3):
        stage.push(favourite, promote=True)
    eventually(lambda: stage.states() == {1: "END", 2: "AVAILABLE", 3: "AVAILABLE"})
    assert stage.repository.versions() == [1, 2, 3]
    # Two steps back: the second has to be loaded again.
    for expected in (2, 1):
        done = servable("rollback", *stage.moving())
        assert done.returncode == 0, done.stderr
        assert stage.resolved("stable") == expected


def test_the_command_tells_each_step_with_its_time(stage: Stage) -> None:
    done = servable("push", stage.candidates[4], *stage.moving(), *skipping(), "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["version"], told["labels"]) == (1, {"stable": 1})
    steps = ["structure", *UNGATED, "stage", "wait", "smoke", "label"]
    assert [step["name"] for step in told["steps"]] == steps
    lines = done.stderr.splitlines()
    assert [line.split()[0] for line in lines] == steps
    assert all(line.split()[2] == "s" and float(line.split()[1]) >= 0 for line in lines)
    # The reason why gates were left out is kept with the version, and beside it.
    (event,) = json.loads((stage.path / "1" / MANIFEST).read_text())["history"]
    assert event["skipped"] == UNGATED
    assert event["who"].partition("@")[2]
    assert stage.repository.history()[0]["skipped"] == UNGATED


def test_a_dry_run_publishes_nothing(stage: Stage) -> None:
    done = servable("push", stage.candidates[0], "--repository", stage.path, "--dry-run",
                    *skipping(), "--json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["version"] is None
    assert not stage.path.exists()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--skip", "trial"], "--why"),
        (["--why", "because"], "--skip"),
        (["--skip", "trial", "--why", " "], "--why"),
        (["--skip", "luck", "--why", "because"], "no gate 'luck'"),
        (["--skip", "structure", "--why", "because"], "cannot be skipped"),
        (["--server", "ftp://somewhere"], "ftp"),
        (["--dry-run", "--promote"], "--promote"),
    ],
)
def test_what_is_asked_wrongly(stage: Stage, flags: list[str], said: str) -> None:
    done = servable("push", stage.candidates[0], "--repository", stage.path, *flags)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert not stage.path.exists()


def test_no_server_is_an_error_before_anything_is_published(stage: Stage) -> None:
    nobody = f"grpc://127.0.0.1:{free_port()}"
    flags = ("--repository", stage.path, "--server", nobody, *skipping())
    done = servable("push", stage.candidates[0], *flags)
    assert "no server answers" in only_sentence(done)
    assert "--no-wait" in done.stderr
    assert not stage.path.exists()
    done = servable("push", stage.candidates[0], *flags, "--no-wait")
    assert done.returncode == 0, done.stderr
    assert "no server was waited for" in done.stderr
    # The server that reads the repository finds it all the same.
    with stage.client() as client:
        client.wait_until_available(label="stable", timeout=60)
    for number in (1, 2):
        done = servable("push", stage.candidates[number], *flags, "--no-wait")
        assert done.returncode == 0, done.stderr
    eventually(lambda: stage.states() == dict.fromkeys([1, 2, 3], "AVAILABLE"))
    done = servable("promote", "3", *flags[:2], "--no-wait")
    assert done.returncode == 0, done.stderr
    eventually(lambda: stage.resolved("stable") == 3)
    # A label in use cannot be moved ahead of its version: servers would refuse the file.
    done = servable("push", stage.candidates[1], *flags, "--no-wait", "--promote")
    assert "no server is waited for" in only_sentence(done)
    assert stage.repository.versions() == [1, 2, 3]


def break_the_load(candidate: Path) -> str:
    add_warmup(candidate, "tiny", np.zeros([1, 3], "float32"))
    sign(candidate)
    return "failed to load"


def break_the_answers(candidate: Path) -> str:
    manifest = json.loads((candidate / MANIFEST).read_text())
    manifest["golden"][0]["probabilities"].reverse()
    (candidate / MANIFEST).write_text(json.dumps(manifest))
    return "answers golden request 0 differently"


@pytest.mark.parametrize("breaking", [break_the_load, break_the_answers])
def test_a_version_that_fails_where_it_is_served_is_taken_out_of_sight(
    stage: Stage, tmp_path: Path, breaking: Callable[[Path], str]
) -> None:
    stage.push(1)
    stage.push(2)
    before = (stage.root / "models.config").read_text()
    bad = shutil.copytree(stage.candidates[3], tmp_path / "bad")
    reason = breaking(bad)
    done = servable("push", bad, *stage.moving(), *skipping(), "--promote")
    assert reason in only_sentence(done)
    assert visible(stage) == [".rejected", "1", "2"]
    rejected = json.loads((stage.path / ".rejected" / "3" / "reason.json").read_text())
    assert reason in rejected["reason"]
    assert rejected["step"] == ("wait" if breaking is break_the_load else "smoke")
    assert (stage.root / "models.config").read_text() == before
    assert (stage.resolved("stable"), stage.resolved("canary")) == (1, 2)
    # Its number does not come back.
    assert stage.push(3) == 4


def test_a_number_that_was_used_is_refused(stage: Stage) -> None:
    stage.push(0)
    for number, said in ((1, "exists already"), (0, "--version")):
        done = servable("push", stage.candidates[0], *stage.moving(), *skipping(),
                        "--version", number)  # fmt: skip
        assert said in done.stderr
        assert done.returncode != 0
    shutil.rmtree(stage.path / "1")
    stage.path.joinpath(".history.jsonl").unlink()
    with pytest.raises(FolderError, match="was used before"), stage.repository.locked():
        stage.repository.publish(Candidate(stage.candidates[0]), version=1)
    assert [p.name for p in stage.path.iterdir() if p.name.isdigit()] == []


def test_two_pushes_at_once_come_one_after_the_other(stage: Stage) -> None:
    stage.push(0)
    found: list[int] = []
    threads = [threading.Thread(target=lambda n=n: found.append(stage.push(n))) for n in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [2, 3]
    assert (stage.resolved("stable"), stage.resolved("canary")) == (1, 3)


def test_a_rollback_does_not_wait_for_a_push(stage: Stage) -> None:
    stage.push(1)
    stage.push(2, promote=True)
    with stage.repository.locked():  # as a push does, for as long as a version takes to load
        done = servable("rollback", *stage.moving())
    assert done.returncode == 0, done.stderr
    assert stage.resolved("stable") == 1


def fill(disk: Path) -> list[str]:
    return ["dd", "if=/dev/zero", f"of={disk / 'filler'}", "bs=4k"]


def test_a_disk_that_is_full(stage: Stage, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a small disk needs root")
    try:
        flags = ("--repository", disk / stage.name, "--no-wait", *skipping())
        assert servable("push", stage.candidates[0], *flags).returncode == 0
        config = (disk / "models.config").read_text()
        large = with_ballast(shutil.copytree(stage.candidates[1], tmp_path / "large"), 8)
        done = servable("push", large, *flags)
        assert "No space left on device" in only_sentence(done)
        left = [p.name for p in (disk / stage.name).iterdir() if p.name[0] != "."]
        assert left == ["1"]
        assert not list((disk / stage.name).glob(".incoming-*"))
        assert (disk / "models.config").read_text() == config
        subprocess.run(["mount", "-o", "remount,size=24m", disk], check=True)
        done = servable("push", large, *flags)
        assert done.returncode == 0, done.stderr
        # Behind a URL as well: a number that could be claimed and not written down is nobody's.
        assert b"No space" in subprocess.run(fill(disk), capture_output=True, check=False).stderr
        for _ in range(2):
            with pytest.raises(StoreError, match="No space left on device"):
                Store(f"file://{disk}").create("claimed", b"x" * 100)
        (disk / "filler").unlink()
        assert Store(f"file://{disk}").create("claimed", b"x" * 100)
        # A repository so full that not even models.config can be written: nothing is served of it.
        before = (disk / "models.config").read_text()
        assert b"No space" in subprocess.run(fill(disk), capture_output=True, check=False).stderr
        done = servable("promote", "2", "--repository", disk / stage.name, "--no-wait")
        assert "No space left on device" in only_sentence(done)
        assert (disk / "models.config").read_text() == before
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model_config_list { config {", "cannot parse"),
        ("", "no model_config_list"),
        ('model_config_list { config { name: "x" } config { name: "x" } }', "lists x twice"),
        (None, "cannot read"),
        (
            'model_config_list { config { name: "MODEL" base_path: "/m/tiny" '  # noqa: ISC004
            'model_platform: "tensorflow" version_labels { key: "stable" value: 9 } } }',
            "labels version 9 of MODEL stable",
        ),
    ],
)
def test_a_models_config_that_makes_no_sense_stops_a_push_at_its_beginning(
    text: str | None, said: str, stage: Stage, tmp_path: Path
) -> None:
    config = tmp_path / "models" / "models.config"
    config.parent.mkdir()
    if text is None:
        config.mkdir()
    else:
        text = text.replace("MODEL", stage.name)
        config.write_text(text)
    done = servable("push", stage.candidates[0], "--repository", config.parent / "tiny",
                    "--no-wait", *skipping())  # fmt: skip
    assert said.replace("MODEL", stage.name) in only_sentence(done)
    assert not (config.parent / "tiny").exists()
    assert text is None or config.read_text() == text


def test_a_server_that_does_not_read_the_file(stage: Stage, tmp_path: Path) -> None:
    """A server of --model_base_path takes the highest version, and knows no labels."""
    path = tmp_path / "models" / stage.name
    flags = ["--repository", str(path), *skipping(), "--timeout", "300"]
    done = servable("push", stage.candidates[1], *flags, "--no-wait")
    assert done.returncode == 0, done.stderr
    with serving(path, tmp_path / "log", *FLAGS[2:], model=stage.name) as running:
        done = servable("push", stage.candidates[2], *flags, "--server", running.grpc)
        assert done.returncode == 0, done.stderr
        assert "does not read" in done.stderr
        done = servable("promote", "2", *flags[:2], "--server", running.grpc)
        assert "does not read" in only_sentence(done)
        with Client(running.grpc, model=stage.name) as client:
            assert client.resolve() == 2


def test_promote_needs_a_version_that_is_there_and_whole(stage: Stage) -> None:
    stage.push(1)
    stage.push(2)
    assert "there is no version 7" in only_sentence(servable("promote", "7", *stage.moving()))
    weights = next((stage.path / "2" / "variables").glob("*.data*"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    done = servable("promote", "2", *stage.moving())
    assert "is not as it was exported" in only_sentence(done)
    assert stage.resolved("stable") == 1


def test_stable_waits_until_its_version_is_there(stage: Stage) -> None:
    """A version that is in the repository and not loaded is loaded before it is labelled."""
    stage.push(1)
    with stage.repository.locked():
        stage.repository.publish(Candidate(stage.candidates[2]))
    assert stage.states() == {1: "AVAILABLE"}
    done = servable("promote", "2", *stage.moving())
    assert done.returncode == 0, done.stderr
    assert stage.resolved("stable") == 2


def test_other_things_in_the_file_are_kept(tmp_path: Path, stage: Stage) -> None:
    root = tmp_path / "models"
    root.mkdir()
    (root / "models.config").write_text(
        "# by hand\n\n"
        'model_config_list { config { name: "other" base_path: "/elsewhere" model_platform: '
        '"tensorflow" logging_config { sampling_config { sampling_rate: 0.5 } } } '
        f'config {{ name: "{stage.name}" base_path: "/models/x" model_platform: "tensorflow" '
        'model_version_policy { all {} } version_labels { key: "mine" value: 1 } } }'
    )
    shutil.copytree(stage.candidates[0], root / stage.name / "1")
    done = servable("push", stage.candidates[1], "--repository", root / stage.name, "--no-wait",
                    *skipping(), "--json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["labels"] == {"canary": 2, "mine": 1, "stable": 1}
    text = (root / "models.config").read_text()
    assert text.startswith("# by hand\n\nmodel_config_list {")
    assert 'base_path: "/elsewhere"' in text
    assert "sampling_rate: 0.5" in text
    # What `all` loaded so far is loaded still.
    assert text.count("versions: ") == 2
