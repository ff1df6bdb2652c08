"""The notebook of examples/, cell by cell, as it is written but for the port."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.conftest import ROOT, free_port

if TYPE_CHECKING:
    from pathlib import Path

NOTEBOOK = ROOT / "examples" / "your_model.ipynb"


def test_it_runs_from_the_fit_to_the_answer(tmp_path: Path) -> None:
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert not any(cell.get("outputs") for cell in cells)
    program = "\n".join(code).replace("8500", str(free_port()))
    # In a process of its own, as a kernel is.
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["input", "image", "uint8", "[N,", "28,", "28]"]
    assert lines[-1].startswith("Ankle boot (")
    assert lines[-1].endswith("is Ankle boot")
    assert (tmp_path / "models" / "garments" / "1" / "saved_model.pb").is_file()
