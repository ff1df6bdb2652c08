"""What is in a repository: versions, verify, prune and diff."""

from __future__ import annotations

import json
import re
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.conftest import free_port, only_sentence
from tests.forked import servable
from tests.functional.serving.calls import eventually
from tests.functional.serving.candidates import sign
from tests.functional.serving.fixture_models import LABELS

from servable_serving.gates.holdout import Holdout
from servable_serving.release.diff import Answers, compare_answers
from servable_serving.repository.manifest import MANIFEST

if TYPE_CHECKING:
    from pathlib import Path

    from tests.functional.serving.releases import Stage


@pytest.fixture
def three(stage: Stage) -> Stage:
    """A model with versions 1 to 3: an old one, stable, and canary."""
    stage.push(1)
    stage.push(2, promote=True)
    stage.push(3)
    return stage


def test_versions_tells_what_is_there(three: Stage) -> None:
    done = servable("versions", *three.flags(), "--json")
    assert done.returncode == 0, done.stderr
    entries = json.loads(done.stdout)
    assert [e["version"] for e in entries] == [3, 2, 1]
    assert [e["labels"] for e in entries] == [["canary"], ["stable"], []]
    # The previous stable stays loaded.
    assert [e["state"] for e in entries] == ["AVAILABLE"] * 3
    assert [e["accuracy"] for e in entries] == [0.13, 0.12, 0.11]
    assert all(e["size"] > 10_000 and "@" in e["by"] and e["reason"] is None for e in entries)
    table = servable("versions", *three.flags())
    assert table.returncode == 0
    assert "canary" in table.stdout
    assert "AVAILABLE" in table.stdout
    # Without a server it goes by the file, and says so.
    nobody = f"grpc://127.0.0.1:{free_port()}"
    done = servable("versions", "--repository", three.path, "--server", nobody, "--json")
    assert "no server answers" in done.stderr
    assert [e["state"] for e in json.loads(done.stdout)] == ["listed"] * 3


def test_verify_finds_what_has_changed(three: Stage) -> None:
    # On a copy, so that the server is left alone.
    done = servable("verify", "--repository", three.path)
    assert (done.returncode, done.stdout.count(": ok")) == (0, 4), done.stdout
    broken = three.path.parent / f"{three.name}-broken"
    shutil.copytree(three.path, broken)
    weights = next((broken / "2" / "variables").glob("*.data*"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    manifest = json.loads((broken / "3" / MANIFEST).read_text())
    (broken / "3" / MANIFEST).write_text(json.dumps({**manifest, "seed": 7}))
    (broken / ".incoming-x").mkdir()
    done = servable("verify", "--repository", broken, "--json")
    assert "3 of 5 checks failed" in only_sentence(done)
    trouble = {c["what"].rpartition("/")[2]: c["trouble"] for c in json.loads(done.stdout)}
    assert trouble["1"] is None
    assert "is not as it was exported" in trouble["2"]
    assert "not the one that was pushed" in trouble["3"]
    assert "was killed" in trouble[".incoming-x"]
    shutil.rmtree(broken)


def test_prune_takes_away_what_nobody_needs(three: Stage) -> None:
    three.push(4, promote=True)  # stable is 4, was 2; canary is 3
    eventually(lambda: three.states()[1] == "END")  # its last requests have ended
    done = servable("prune", "--keep", "1", *three.flags(), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"pruned": [1], "left": [2, 3, 4]}
    assert not (three.path / "1").exists()
    done = servable("prune", "--keep", "1", *three.flags())
    assert "pruned nothing; kept 2, 3, 4" in done.stdout
    assert servable("prune", "--keep", "0", *three.flags()).returncode == 2


def test_a_number_does_not_come_back_when_the_highest_was_pruned(three: Stage) -> None:
    shutil.copytree(three.path / "3", three.path / "9")
    three.path.joinpath(".lock").write_text("9\n")
    shutil.rmtree(three.path / "9")
    assert three.push(4) == 10


def test_diff_tells_figures_and_answers(three: Stage, tmp_path: Path) -> None:
    targets = np.array([1] * 6 + [2] * 3 + [5])
    np.savez(tmp_path / "held-out.npz", images=np.zeros([10, 28, 28], np.uint8), targets=targets)
    flags = ("--repository", three.path, "--holdout", tmp_path / "held-out.npz")
    done = servable("diff", "1", "2", *flags, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["figures"] == {
        "hyperparameters.favourite": [1, 2],
        "metrics.test.accuracy": [0.11, 0.12],
    }
    assert told["answers"] == {"pictures": 10, "changed": 10, "mended": 3, "broken": 6}
    done = servable("diff", "1", "2", *flags)
    assert "predictions differ on 10 of 10 images (100.00%): 3 fixed, 6 regressed" in done.stdout
    assert "hyperparameters.favourite" in done.stdout
    done = servable("diff", "1", "7", *flags)
    assert "there is no version 7" in only_sentence(done)


def test_classes_are_compared_by_their_names(tinies: list[Path], tmp_path: Path) -> None:
    other = shutil.copytree(tinies[1], tmp_path / "other")
    swapped = {"Trouser": "Sneaker", "Sneaker": "Trouser"}
    graph = re.sub(
        rb"\x07(Trouser|Sneaker)",
        lambda found: b"\x07" + swapped[found[1].decode()].encode(),
        (other / "saved_model.pb").read_bytes(),
    )
    (other / "saved_model.pb").write_bytes(graph)
    sign(other, labels=[swapped.get(label, label) for label in LABELS])
    trousers = Holdout(
        source="ten trousers", images=np.zeros([10, 28, 28], np.uint8),
        targets=np.ones(10, np.int64), labels=tuple(LABELS),
    )  # fmt: skip
    assert compare_answers(tinies[1], other, trousers) == Answers(
        pictures=10, changed=10, mended=0, broken=10
    )
