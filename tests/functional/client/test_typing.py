"""The types of the client, as type checkers of its users see them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import mypy.api
import pytest
from tests.conftest import NAME, ROOT
from tests.functional.client.conftest import as_file

import servable_client

if TYPE_CHECKING:
    import numpy as np
    from tests.conftest import RunningServer

PROGRAM = Path(__file__).with_name("typed_program.py")
MISSPELLED = "import servable_client\nfrom servable_client import Klient\nservable_client.nope\n"
PYRIGHT = ROOT / "node_modules" / "pyright" / "index.js"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project of a user."""
    made = tmp_path_factory.mktemp("typed")
    shutil.copy(PROGRAM, made / "program.py")
    (made / "misspelled.py").write_text(MISSPELLED)
    config = {"typeCheckingMode": "strict", "extraPaths": [str(ROOT / "client")]}
    (made / "pyrightconfig.json").write_text(json.dumps(config))
    return made


def checked_by_mypy(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> str:
    monkeypatch.setenv("MYPYPATH", str(ROOT / "client"))
    options = ("--config-file=", "--strict", "--follow-imports=silent", "--no-error-summary")
    cache = f"--cache-dir={folder / 'cache'}"
    output, problems, _ = mypy.api.run([*options, cache, str(folder / name)])
    assert not problems
    return output


def pyright(folder: Path, *options: str) -> str:
    if shutil.which("node") is None or not PYRIGHT.exists():
        pytest.skip("pyright is not installed; `make js` installs it")
    done = subprocess.run(
        ["node", PYRIGHT, "--pythonpath", sys.executable, "--project", folder, *options],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        # pyright does not follow the import hook of an editable installation.
        env={**os.environ, "PYTHONPATH": str(ROOT / "client")},
    )
    assert not done.stderr
    return done.stdout


def test_a_program_is_typed_for_mypy(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "program.py" not in checked_by_mypy(folder, monkeypatch, "program.py")
    # With the cache of the first, in which it takes no time.
    output = checked_by_mypy(folder, monkeypatch, "misspelled.py")
    assert output.count("[attr-defined]") == 2


def test_a_program_is_typed_for_pyright(folder: Path) -> None:
    found = json.loads(pyright(folder, "--outputjson"))["generalDiagnostics"]
    messages = {(Path(each["file"]).name, each["message"]) for each in found}
    assert not [text for name, text in messages if name == "program.py"]
    named = [text for name, text in messages if name == "misspelled.py"]
    assert any('"Klient" is unknown' in text for text in named)
    assert any('"nope" is not a known attribute' in text for text in named)


def test_pyright_knows_the_type_of_each_public_name(folder: Path) -> None:
    options = ("--verifytypes", "servable_client", "--ignoreexternal", "--outputjson")
    symbols = json.loads(pyright(folder, *options))["typeCompleteness"]["symbols"]
    known = {
        symbol["name"].removeprefix("servable_client.")
        for symbol in symbols
        if symbol["isTypeKnown"] and not symbol["isTypeAmbiguous"]
    }
    assert set(servable_client.__all__) <= known


def test_the_program_uses_each_public_name() -> None:
    text = PROGRAM.read_text()
    assert not [name for name in servable_client.__all__ if text.count(name) < 2]
    for kind in (servable_client.Client, servable_client.AsyncClient):
        methods = [name for name in vars(kind) if not name.startswith("_")]
        assert not [name for name in methods if f".{name}(" not in text]


def test_the_program_runs(
    server: RunningServer, scheme: str, boot: np.ndarray, tmp_path: Path
) -> None:
    (tmp_path / "boot.png").write_bytes(as_file(boot))
    config = (
        f'model_config_list {{ config {{ name: "{NAME}" base_path: "{server.base_path}" '
        'model_platform: "tensorflow" } }'
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", PROGRAM, server.address(scheme), "boot.png", config],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert done.stdout.endswith(" events\n")
