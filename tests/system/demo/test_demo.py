"""`servable demo`: the whole line, short, and broken off."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest
from tests.conftest import ROOT, free_port, only_sentence, servable

if TYPE_CHECKING:
    from pathlib import Path

    from servable_trainer.data.dataset import Dataset

# Guards against a hang, on machines that do other work at the same time.
pytestmark = [pytest.mark.usefixtures("dataset"), pytest.mark.timeout(1800)]

SHORT = ("--trials", "1", "--epochs", "1", "--subset", "1000")
# The command with fewer pictures, where it is not about them.
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


def runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def models_of_the_repository() -> dict[str, int]:
    return {str(p): p.stat().st_mtime_ns for p in (ROOT / "models").rglob("*")}


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """What a short demo printed, and where it worked."""
    directory = tmp_path_factory.mktemp("demo") / "work"
    before = models_of_the_repository()
    done = servable(
        "demo", *SHORT, "--directory", directory,
        "--port", free_port(), "--rest-api-port", free_port(), timeout=1500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert models_of_the_repository() == before  # it never writes there
    return done.stdout + done.stderr, directory


def test_the_line_is_whole(output: tuple[str, Path], dataset: Dataset) -> None:
    text, directory = output
    assert re.search(r"trial 0000 ended  validation accuracy 0\.\d+", text)
    accuracies = [float(x) for x in re.findall(r"10000 test pictures: accuracy (0\.\d+)", text)]
    assert len(accuracies) == 2
    assert accuracies[1] > 0.8
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


def test_a_folder_that_is_not_its_own_is_left_alone(tmp_path: Path) -> None:
    precious = tmp_path / "precious.txt"
    precious.write_text("a year's work")
    done = servable(
        "demo", "--directory", tmp_path, "--port", free_port(), "--rest-api-port", free_port()
    )
    assert "holds what no demo wrote" in only_sentence(done)
    assert precious.read_text() == "a year's work"


def test_one_port_for_two_is_known_at_once(tmp_path: Path) -> None:
    port = free_port()
    done = servable(
        "demo", "--directory", tmp_path / "work", "--port", port, "--rest-api-port", port
    )
    assert "cannot both listen" in only_sentence(done)


def test_a_port_in_use_is_known_at_once(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = servable(
            "demo", "--directory", tmp_path / "work",
            "--port", free_port(), "--rest-api-port", port,
        )  # fmt: skip
    assert str(port) in only_sentence(done)
    assert "--rest-api-port" in done.stderr
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_every_process_that_it_started(
    number: signal.Signals, tmp_path: Path
) -> None:
    with subprocess.Popen(
        [
            sys.executable, "-c", FEW, "demo", *SHORT,
            "--directory", str(tmp_path / "work"),
            "--port", str(free_port()), "--rest-api-port", str(free_port()),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # Where the tests run in the background their shell has them ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    ) as process:  # fmt: skip
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
        process.send_signal(number)
        rest: list[str] = []
        reader = threading.Thread(target=lambda: rest.extend(process.stderr or ()))
        reader.start()
        assert process.wait(60) != 0
        reader.join()
        assert not runs(server)
        assert "Traceback" not in "".join(rest)
