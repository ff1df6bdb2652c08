"""`servable demo`: all of it, short, and interrupted."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest
from tests.conftest import ROOT, free_port

if TYPE_CHECKING:
    from pathlib import Path

    from servable_trainer.data.dataset import Dataset

# Guards against a hang, on machines that do other work at the same time.
pytestmark = [pytest.mark.usefixtures("dataset"), pytest.mark.timeout(1800)]

# The command with few images: it is about the steps, and not about how good the network is.
FEW = """
from dataclasses import replace
from servable_client.cli.app import main
from servable_trainer.data import fashion_mnist

find = fashion_mnist.find

def few(folder):
    found, whole = find(folder)
    return found, replace(whole, train=whole.train.first(3000), test=whole.test.first(1000))

fashion_mnist.find = few
main()
"""
# The command with a candidate that is there already, in place of a training.
UNTRAINED = """
import shutil, sys
from servable_client.cli.app import main
from servable_trainer.demo.demo import Demo
from servable_trainer.training import train
from servable_trainer.tuning import tune
from servable_trainer.tuning.trials import Trial

candidate = sys.argv.pop(1)
tune.tune = lambda *_, **__: [Trial(hyperparameters={}, score=0.5)]
train.train = lambda *_, **__: None
Demo._export = lambda demo, number, _: shutil.copytree(candidate, demo._candidate(number))
main()
"""


def runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def models_of_the_repository() -> dict[str, int]:
    return {str(p): p.stat().st_mtime_ns for p in (ROOT / "models").rglob("*")}


def command(directory: Path, *program: str) -> list[str]:
    """A short demo."""
    return [
        sys.executable, "-c", *program, "demo", "--trials", "1", "--epochs", "3",
        "--subset", "500", "--directory", str(directory),
        "--port", str(free_port()), "--rest-api-port", str(free_port()),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """What a short demo printed, and where it worked."""
    directory = tmp_path_factory.mktemp("demo") / "work"
    before = models_of_the_repository()
    done = subprocess.run(command(directory, FEW), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert models_of_the_repository() == before  # it never writes there
    return done.stdout + done.stderr, directory


def test_every_step_succeeds(output: tuple[str, Path], dataset: Dataset) -> None:
    text, directory = output
    assert re.search(r"trial 0000 completed  validation accuracy 0\.\d+", text)
    accuracies = [float(x) for x in re.findall(r"1000 test images: accuracy (0\.\d+)", text)]
    assert len(accuracies) == 2
    assert accuracies[1] > 0.5
    for label in dataset.labels:
        assert label in text
    assert "by gRPC" in text
    assert re.search(r"picture\.png, 280 x 280: \w[\w ]+ \(\d+\.\d%\), from version 1", text)
    assert "curl http://127.0.0.1:" in text
    assert "Traceback" not in text
    versions = directory / "models" / "fashion_mnist"
    assert sorted(p.name for p in versions.iterdir() if p.name[0] != ".") == ["1", "2"]


def test_no_request_failed_over_the_switch(output: tuple[str, Path]) -> None:
    text, _ = output
    for by in ("grpc", "http"):
        (row,) = re.findall(rf"│ {by} +│ +(\d+) +│ +(\d+) +│", text)
        assert int(row[0]) > 50
        assert int(row[1]) == 0
    assert re.search(r"1: \d+, 2: \d+", text)
    assert "no request failed" in text


def test_a_signal_ends_every_process_that_it_started(candidate: Path, tmp_path: Path) -> None:
    with subprocess.Popen(
        command(tmp_path / "work", UNTRAINED, str(candidate)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr
        lines = []
        server = None
        for line in process.stderr:
            lines.append(line)
            if found := re.search(r"gRPC at .*, process (\d+)", line):
                server = int(found[1])
                break
        assert server is not None, "".join(lines)
        assert runs(server)
        process.send_signal(signal.SIGTERM)
        rest: list[str] = []
        reader = threading.Thread(target=lambda: rest.extend(process.stderr or ()))
        reader.start()
        assert process.wait(60) != 0
        reader.join()
        assert not runs(server)
        assert "Traceback" not in "".join(rest)
