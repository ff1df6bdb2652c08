"""Every command of docs/releasing.md, as it is written, one after the other."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image
from tests.conftest import ROOT, free_port

if TYPE_CHECKING:
    from servable_trainer.data.dataset import Dataset

PAGE = (ROOT / "docs" / "releasing.md").read_text()
BLOCKS = re.findall(r"^```sh( fails)?\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
# The command with fewer images: what the page shows does not depend on how many there are.
FEW = f"""#!{sys.executable}
from dataclasses import replace
from servable_client.cli.app import main
from servable_trainer.data import fashion_mnist

find = fashion_mnist.find

def few(folder=None):
    found, whole = find(folder)
    return found, replace(whole, train=whole.train.first(3000), test=whole.test.first(500))

fashion_mnist.find = few
main()
"""


@pytest.mark.timeout(900)  # detects a hang
def test_the_page(tmp_path: Path, dataset: Dataset) -> None:
    if shutil.which("curl") is None:
        pytest.skip("there is no curl here")
    shutil.copytree(ROOT / "models", tmp_path / "models", ignore=lambda _, names: [
        name for name in names if name.startswith(".") or name == "models.config"
    ])  # fmt: skip
    Image.fromarray(dataset.test.images[0]).save(tmp_path / "boot.png")
    # A block that is said to fail ends the script where it does not.
    script = "\n".join(
        (f"if (\n{code}); then exit 9; fi" if fails else code) + f"\nprintf '\\n=== {number}\\n'"
        for number, (fails, code) in enumerate(BLOCKS)
    )
    # Also where a command fails, since the server that the page starts keeps the pipe open.
    script = f"trap 'printf \"\\n=== end\\n\"' EXIT\n{script}"
    grpc, rest = free_port(), free_port()
    script = script.replace("8500", str(grpc)).replace("8501", str(rest))
    command = tmp_path / "bin" / "servable"
    command.parent.mkdir()
    command.write_text(FEW)
    command.chmod(0o755)
    binaries = Path(sys.executable).parent
    with (
        (tmp_path / "stderr").open("wb") as errors,
        subprocess.Popen(
            ["bash", "-eu", "-c", script],
            cwd=tmp_path,
            env={
                **os.environ,
                "PATH": f"{command.parent}:{binaries}:{os.environ['PATH']}",
                "SERVABLE_SERVER": f"grpc://localhost:{grpc}",
            },
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
            text=True,
        ) as process,
    ):
        assert process.stdout
        try:
            told = ""
            for line in process.stdout:
                told += line
                if line.startswith("=== end"):
                    break
        finally:
            os.killpg(process.pid, signal.SIGTERM)
    said = (tmp_path / "stderr").read_text()
    parts = re.split(r"^=== \d+\n", told, flags=re.MULTILINE)
    assert len(parts) == len(BLOCKS) + 1, (told[-2000:], said[-2000:])
    assert "gate 'accuracy' failed" in said
    assert "canary is version 2" in said
    assert "stable is version 3, and was 2" in said
    assert "models/fashion_mnist/1 passes; nothing was published" in told
    assert "predictions differ on 0 of 500 images" in told
    assert "Ankle boot" in told
    assert "stable is version 2 of fashion_mnist" in told
    assert told.count(": ok") == 4
    assert "pruned" in told
    assert not (tmp_path / "models" / "fashion_mnist" / "4").exists()
