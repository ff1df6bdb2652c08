"""The stack, run by Docker Compose."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self

from servable_client import ServableError

FILE = Path("docker-compose.yml")
_PORTS = {"grpc": 8500, "rest": 8501, "tls": 8443}
_SCHEMES = {"grpc": "grpc", "rest": "http", "tls": "https"}


class StackError(ServableError):
    """The stack does not start or stop."""


class Runner(Protocol):
    """Runs a program."""

    def __call__(
        self, command: list[str], *, folder: Path, environment: dict[str, str], shown: bool
    ) -> subprocess.CompletedProcess[str]:
        """Run it to its end.

        Args:
            command: The program and its arguments.
            folder: Its working directory.
            environment: Its environment variables.
            shown: Whether its output goes to standard error; else it is returned.

        Raises:
            OSError: It cannot be started.
        """
        ...


def run_program(
    command: list[str], *, folder: Path, environment: dict[str, str], shown: bool
) -> subprocess.CompletedProcess[str]:
    """See `Runner`."""
    return subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr if shown else subprocess.PIPE,
        stderr=None if shown else subprocess.PIPE,
        text=True,
        check=False,
    )


@dataclass(frozen=True)
class Compose:
    """`docker compose` with the compose file of a folder.

    Args:
        folder: The folder.
        run: Runs docker.
        machine: The machine's architecture, as `platform.machine()` names it.
    """

    folder: Path
    run: Runner = run_program
    machine: str = field(default_factory=platform.machine)

    @classmethod
    def here(cls) -> Self | None:
        """With the compose file of the working directory; None if that is not Servable's."""
        return cls(Path.cwd()) if FILE.is_file() and "servable" in FILE.read_text() else None

    def answers(self) -> bool:
        """Whether a Docker Engine with Compose is available."""
        try:
            return not any(
                self._docker(*arguments).returncode
                for arguments in (["info"], ["compose", "version"])
            )
        except OSError:
            return False

    def up(self, models: Path, model: str, timeout: float) -> dict[str, Any]:
        """Start the services that do not run, and wait until all are healthy.

        Returns:
            Its addresses.

        Raises:
            StackError: A service does not start.
        """
        # Compose's progress goes to standard error: standard output is for JSON.
        done = self._run(
            "up", "--detach", "--wait", "--wait-timeout", str(round(timeout)), shown=True,
            environment={
                "SERVABLE_MODELS_ROOT": str(models.resolve()), "SERVABLE_MODEL": model,
            } if models != Path("models") or model != "fashion_mnist" else {},
        )  # fmt: skip
        if done.returncode:
            raise StackError(
                "docker compose could not start the stack; its output is above",
                hint="see `docker compose logs`; `servable up --embedded` needs no Docker",
            )
        return {"by": "docker compose", "model": model} | {
            name: f"{_SCHEMES[name]}://{self._published(port)}" for name, port in _PORTS.items()
        }

    def down(self) -> bool:
        """Stop it; whether anything ran.

        Raises:
            StackError: It cannot be stopped.
        """
        if not self._run("--profile", "*", "ps", "--all", "--quiet").stdout.strip():
            return False
        done = self._run("--profile", "*", "down", shown=True)
        if done.returncode:
            raise StackError("docker compose could not stop the stack; its output is above")
        return True

    def _published(self, port: int) -> str:
        published = self._run("port", "gateway", str(port)).stdout.strip()
        return f"localhost:{published.rpartition(':')[2]}"

    def _run(
        self, *arguments: str, shown: bool = False, environment: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return self._docker("compose", *arguments, shown=shown, environment=environment)

    def _docker(
        self, *arguments: str, shown: bool = False, environment: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return self.run(
            ["docker", *arguments],
            folder=self.folder,
            environment={**self._server_of_this_machine(), **os.environ, **(environment or {})},
            shown=shown,
        )

    def _server_of_this_machine(self) -> dict[str, str]:
        """The setting for a machine that TensorFlow Serving has no image for: arm64."""
        if self.machine in {"arm64", "aarch64"} and not self._sets("SERVABLE_SERVING"):
            return {"SERVABLE_SERVING": "embedded"}
        return {}

    def _sets(self, name: str) -> bool:
        """Whether .env sets a variable: the environment would take precedence over it."""
        try:
            lines = (self.folder / ".env").read_text().splitlines()
        except OSError:
            return False
        return any(line.strip().startswith(f"{name}=") for line in lines)
