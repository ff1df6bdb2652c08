"""The stack by Docker Compose."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from servable_client import ServableError

FILE = Path("docker-compose.yml")
_PORTS = {"grpc": 8500, "rest": 8501, "tls": 8443}
_SCHEMES = {"grpc": "grpc", "rest": "http", "tls": "https"}


class StackError(ServableError):
    """The stack does not come up, or does not go down."""


@dataclass(frozen=True)
class Compose:
    """`docker compose` over the compose file of a folder."""

    folder: Path

    @classmethod
    def here(cls) -> Self | None:
        """Over the compose file of this folder, where it is ours."""
        return cls(Path.cwd()) if FILE.is_file() and "servable" in FILE.read_text() else None

    def answers(self) -> bool:
        """Whether there is a Docker Engine with Compose."""
        try:
            return not any(
                subprocess.run(["docker", *command], capture_output=True, check=False).returncode
                for command in (["info"], ["compose", "version"])
            )
        except OSError:
            return False

    def up(self, models: Path, model: str, timeout: float) -> dict[str, Any]:
        """Start what does not run, and wait until all of it is healthy.

        Returns:
            Where to ask.

        Raises:
            StackError: It does not come up.
        """
        # What compose says of its progress goes by as it comes, and not to where JSON goes.
        done = self._run(
            "up", "--detach", "--wait", "--wait-timeout", str(round(timeout)), shown=True,
            environment={
                "SERVABLE_MODELS_ROOT": str(models.resolve()), "SERVABLE_MODEL": model,
            } if models != Path("models") or model != "fashion_mnist" else {},
        )  # fmt: skip
        if done.returncode:
            raise StackError(
                "docker compose did not bring the stack up; what it said stands above",
                hint="`docker compose logs` says more; `servable up --embedded` needs no Docker",
            )
        return {"by": "docker compose", "model": model} | {
            name: f"{_SCHEMES[name]}://{self._published(port)}" for name, port in _PORTS.items()
        }

    def down(self) -> bool:
        """End it; whether anything ran.

        Raises:
            StackError: It cannot be ended.
        """
        if not self._run("--profile", "*", "ps", "--all", "--quiet").stdout.strip():
            return False
        done = self._run("--profile", "*", "down", shown=True)
        if done.returncode:
            raise StackError("docker compose did not end the stack; what it said stands above")
        return True

    def _published(self, port: int) -> str:
        published = self._run("port", "gateway", str(port)).stdout.strip()
        return f"localhost:{published.rpartition(':')[2]}"

    def _run(
        self, *arguments: str, shown: bool = False, environment: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["docker", "compose", *arguments],
            cwd=self.folder,
            env={**_server_of_this_machine(), **os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr if shown else subprocess.PIPE,
            stderr=None if shown else subprocess.PIPE,
            text=True,
            check=False,
        )


def _server_of_this_machine() -> dict[str, str]:
    """TensorFlow Serving has no image for arm64."""
    if platform.machine() in {"arm64", "aarch64"} and not _settled("SERVABLE_SERVING"):
        return {"SERVABLE_SERVING": "embedded"}
    return {}


def _settled(name: str) -> bool:
    """Whether .env says it: the environment, which wins over it, must not then."""
    try:
        lines = Path(".env").read_text().splitlines()
    except OSError:
        return False
    return any(line.strip().startswith(f"{name}=") for line in lines)
