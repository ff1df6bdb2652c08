"""The SDK alone, installed by pip."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from tests.conftest import ROOT
from tests.functional.client.conftest import as_file

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from tests.conftest import RunningServer


def run(*command: object, **kwargs: Any) -> str:
    # Otherwise the packages of the source tree would shadow those of the wheel.
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        check=False,
        env=environ,
        **kwargs,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return str(done.stdout)


def test_a_wheel_alone_in_a_fresh_environment_classifies(
    tmp_path: Path, server: RunningServer, boot: np.ndarray
) -> None:
    run(sys.executable, "-m", "build", "--wheel", "--outdir", tmp_path, ROOT)
    (wheel,) = tmp_path.glob("servable-*.whl")
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv")
    scripts = tmp_path / "venv" / "bin"
    pip = (
        sys.executable,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "--python",
        scripts / "python",
    )
    # Most modules are never imported, so that compiling them all would be wasted.
    install = (*pip, "install", "--quiet", "--no-compile")
    run(*install, wheel)
    listed = json.loads(run(*pip, "list", "--format=json"))
    names = {package["name"].lower() for package in listed}
    assert {"servable", "grpcio", "numpy", "httpcore"} <= names
    assert not [name for name in names if "tensorflow" in name or "keras" in name]
    picture = tmp_path / "boot.png"
    picture.write_bytes(as_file(boot))
    for address in (server.grpc, server.http):
        said = run(scripts / "servable", "classify", picture, "--server", address, cwd=tmp_path)
        assert "Ankle boot" in said
        code = (
            "import asyncio, sys\n"
            "from servable_client import AsyncClient, Client\n"
            f"with Client({address!r}, model='fashion_mnist') as client:\n"
            f"    print(client.classify({str(picture)!r}).label)\n"
            "async def main():\n"
            f"    async with AsyncClient({address!r}, model='fashion_mnist') as client:\n"
            f"        print((await client.classify({str(picture)!r})).label)\n"
            "asyncio.run(main())\n"
            "assert not [name for name in sys.modules if name.startswith('tensorflow')]\n"
        )
        answers = run(scripts / "python", "-c", code, cwd=tmp_path)
        assert answers.splitlines() == ["Ankle boot"] * 2

    # libcurl 8.12 aborts each response, so calls use grpcio.
    run(*install, "--no-deps", "pycurl==7.45.6")
    said = run(scripts / "servable", "classify", picture, "--server", server.grpc, cwd=tmp_path)
    assert "Ankle boot" in said
