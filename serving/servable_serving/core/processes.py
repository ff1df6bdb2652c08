"""What whoever starts a server of this machine asks before and after."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def serve_command(models: Path, *, port: int, rest_port: int) -> list[str]:
    """What serves a model repository, with labels, by its models.config."""
    return [
        sys.executable, "-m", "servable_client", "serve",
        f"--model_config_file={models / 'models.config'}",
        f"--model_repository_path={models}",
        "--model_config_file_poll_wait_seconds=1",
        "--allow_version_labels_for_unavailable_models",
        f"--port={port}", f"--rest_api_port={rest_port}",
    ]  # fmt: skip


def end(process: subprocess.Popen[bytes], seconds: float) -> None:
    """End a process, by force where it takes longer."""
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def last_line(log: Path) -> str:
    """What a server said last, which is why it ended where it did."""
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"
