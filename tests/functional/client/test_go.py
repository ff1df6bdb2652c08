"""The example in Go, built from the messages of this repository, against a server."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.conftest import NAME, ROOT
from tests.functional.client.conftest import as_file

if TYPE_CHECKING:
    import numpy as np
    from tests.conftest import RunningServer

NEEDED = ("go", "protoc-gen-go")
LIBRARY = Path("/usr/share/gocode/src/google.golang.org/grpc")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled example; only the first build compiles gRPC."""
    if not (all(map(shutil.which, NEEDED)) and LIBRARY.is_dir()):
        pytest.skip("Go and its gRPC are missing; tests/programs installs them on Debian 12")
    made = tmp_path_factory.mktemp("go") / "classify"
    environ = os.environ | {
        "GOCACHE": str(ROOT / "build" / "go"),
        "GOMAXPROCS": "2",
        "PROTOC": f"{sys.executable} -m grpc_tools.protoc",
    }
    command = [ROOT / "examples" / "go" / "build", made]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environ)
    assert done.returncode == 0, done.stderr
    return made


def run(program: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [str(program), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_it_classifies_an_image(
    program: Path, server: RunningServer, boot: np.ndarray, tmp_path: Path
) -> None:
    picture = tmp_path / "boot.png"
    picture.write_bytes(as_file(boot))
    done = run(program, f"127.0.0.1:{server.port}", NAME, picture)
    assert (done.returncode, done.stderr) == (0, "")
    label, probability, version = done.stdout.rsplit(maxsplit=2)
    assert (label, version) == ("Ankle boot", "1")
    assert 0.5 < float(probability) <= 1


def test_it_shows_the_status_of_a_failure(
    program: Path, server: RunningServer, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("milk, eggs")
    done = run(program, f"127.0.0.1:{server.port}", NAME, tmp_path / "notes.txt")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("InvalidArgument: ")
    done = run(program, f"127.0.0.1:{server.port}", "shoes", tmp_path / "notes.txt")
    assert done.stderr.startswith("NotFound: ")
