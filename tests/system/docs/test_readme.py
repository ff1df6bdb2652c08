"""The commands and the example of README.md, as printed but for the ports."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.conftest import NAME, ROOT, free_port

from servable_client import Client

if TYPE_CHECKING:
    from tests.conftest import RunningServer

README = (ROOT / "README.md").read_text()
SAMPLE = ROOT / "serving" / "servable_serving" / "web" / "samples" / "ankle-boot-0.png"
ENVIRONMENT = {
    **os.environ,
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
}


def _section(title: str) -> str:
    assert f"\n### {title}\n" in README
    return README.partition(f"\n### {title}\n")[2].partition("\n##")[0]


def _commands(section: str) -> list[str]:
    """The indented blocks of a section."""
    blocks = re.findall(r"(?:^    .+\n)+", section, re.MULTILINE)
    return [textwrap.dedent(block) for block in blocks]


def _with_ports(text: str, grpc: int, rest: int) -> str:
    return re.sub(r"\b8500\b", str(grpc), re.sub(r"\b8501\b", str(rest), text))


def test_the_embedded_server_starts() -> None:
    (command,) = [
        block
        for block in _commands(_section("Serve the shipped model"))
        if block.startswith("servable serve ")
    ]
    port, rest_port = free_port(), free_port()
    process = subprocess.Popen(
        ["bash", "-c", f"exec {_with_ports(command, port, rest_port)}"],
        cwd=ROOT,
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with Client(f"http://127.0.0.1:{rest_port}", model=NAME) as client:
            client.wait_until_available(timeout=300)
            assert client.classify(SAMPLE).label == "Ankle boot"
    finally:
        process.terminate()
        process.wait(120)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_and_the_shell(server: RunningServer, tmp_path: Path) -> None:
    (script,) = _commands(_section("Call it with curl, or from the shell"))
    script = _with_ports(script, server.port, server.rest_port)
    # `servable status` asks the default address.
    script = re.sub(r"(?m)^servable status$", rf"\g<0> --server {server.grpc}", script)
    (tmp_path / "serving").symlink_to(ROOT / "serving")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert '"label":"Ankle boot"' in done.stdout  # curl
    assert "boot.png" in done.stdout  # servable classify
    assert "AVAILABLE" in done.stdout  # servable status


def test_the_python_example(
    server: RunningServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    shutil.copy(SAMPLE, tmp_path / "boot.png")
    monkeypatch.chdir(tmp_path)
    batch = np.zeros([2, 28, 28], np.uint8)
    exec(  # the page's own code
        compile(_with_ports(code, server.port, server.rest_port), "README.md", "exec"),
        {"images": ["boot.png", batch[0]], "batch": batch},
    )
    assert capsys.readouterr().out.startswith("Ankle boot")
