"""Compose projects of the repository's own docker-compose.yml, each with folders and ports of its
own.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from tests.conftest import NAME, ROOT, SHIPPED, free_port

from servable_client import TLS, Client, ServableError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KEY, HASTY, ADMIN = "stack-test-key-1234", "hasty-test-key-5678", "admin-test-key-9012"
# Several times what any of these tests takes: a guard against a hang.
PATIENCE = 900.0
_BLANK = np.zeros((28, 28), np.uint8)


def run(*command: object, **kwargs: Any) -> subprocess.CompletedProcess[str]:
    """Run a command; its output is kept."""
    return subprocess.run(
        [*map(str, command)], capture_output=True, text=True, check=False, **kwargs
    )


def eventually(condition: Callable[[], Any], *, within: float = PATIENCE, why: str = "") -> Any:
    """Wait for a condition, and give what it gave."""
    end = time.monotonic() + within
    while not (found := condition()):
        assert time.monotonic() < end, f"waited in vain: {why or condition}"
        time.sleep(0.1)
    return found


def readme_curls() -> list[str]:
    """The curl commands that the README prints where it tells of `docker compose up`."""
    text = (ROOT / "README.md").read_text()
    section = text.partition("### Serve the shipped model")[2].partition("\n### ")[0]
    return re.findall(r"^    (curl .*)$", section, re.MULTILINE)


@dataclass
class Stack:
    """A project: `docker compose` with an environment.

    Args:
        name: The project's name.
        folder: Where its models, keys and certificate lie.
        settings: Variables of .env.example, beside those that keep projects apart.

    Attributes:
        made: The models.config that the first start made.
    """

    name: str
    folder: Path
    settings: dict[str, str] = field(default_factory=dict)
    made: str = ""

    def __post_init__(self) -> None:
        self.models = self.folder / "models"
        keys = self.folder / "keys"
        keys.mkdir(parents=True)
        (keys / "api").write_text(f"tests:{KEY}\nhasty:{HASTY}\n")
        (keys / "admin").write_text(f"release:{ADMIN}\n")
        shutil.copytree(SHIPPED, self.models / NAME / "1")
        shutil.copy(ROOT / "models" / "models.config.template", self.models)
        for path in (self.folder, *self.folder.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        ports = (
            "TLS",
            "GRPC",
            "REST",
            "PROMETHEUS",
            "GRAFANA",
            "GATEWAY_METRICS",
            "GATEWAY_MIRROR",
        )
        self.ports = {port: free_port() for port in ports}
        self.environment = {
            **{key: value for key, value in os.environ.items() if "SERVABLE_" not in key},
            **{f"SERVABLE_{port}_PORT": str(number) for port, number in self.ports.items()},
            "SERVABLE_MODELS_ROOT": str(self.models),
            "SERVABLE_KEYS": str(keys),
            **self.settings,
        }

    @property
    def https(self) -> str:
        return f"https://localhost:{self.ports['TLS']}"

    @property
    def grpcs(self) -> str:
        return f"grpcs://localhost:{self.ports['TLS']}"

    @property
    def ca(self) -> Path:
        """The certificate that the gateway made."""
        path = self.folder / "ca.pem"
        if not path.exists():
            self("cp", "gateway:/certs/tls.crt", path)
        return path

    def client(self, scheme: str = "grpcs", **kwargs: Any) -> Client:
        """The SDK, through the gateway."""
        server = self.grpcs if scheme == "grpcs" else self.https
        return Client(server, **{
            "model": NAME, "api_key": KEY, "tls": TLS(ca=self.ca), "timeout": 60, **kwargs
        })  # fmt: skip

    def __call__(self, *arguments: object, check: bool = True) -> str:
        """`docker compose` with arguments; its output."""
        done = run(
            "docker", "compose", "--project-name", self.name, "--env-file", "/dev/null",
            "--file", ROOT / "docker-compose.yml", *arguments,
            env=self.environment, timeout=PATIENCE,
        )  # fmt: skip
        if check and done.returncode:
            raise AssertionError(f"docker compose {arguments}: {done.stderr}\n{self.tell()}")
        return done.stdout

    def up(self, *arguments: object) -> None:
        self("up", "--detach", "--wait", *arguments)

    def tell(self) -> str:
        """How the containers stand and what they said last."""
        return self("ps", "--all", check=False) + self("logs", "--tail", "20", check=False)

    def containers(self, service: str = "", *, ended: bool = False) -> list[dict[str, Any]]:
        """What `docker inspect` says of a service's containers, or of all."""
        names = self("ps", "--quiet", *(["--all"] if ended else []), *([service] * bool(service)))
        return json.loads(run("docker", "inspect", *names.split()).stdout) if names else []

    def end(self) -> None:
        self("--profile", "*", "down", "--volumes", "--timeout", "3", check=False)


class Load:
    """Callers by gRPC and by REST, who ask one after another until the block ends."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self.answers, self.errors = 0, list[ServableError]()
        self._over = threading.Event()
        self._callers = [
            threading.Thread(target=self._call, args=(scheme,))
            for scheme in ("grpcs", "https", "grpcs", "https")
        ]

    def _call(self, scheme: str) -> None:
        with self._stack.client(scheme, label="stable") as client:
            while not self._over.is_set():
                try:
                    client.classify(_BLANK)
                except ServableError as error:
                    self.errors.append(error)
                else:
                    self.answers += 1
                # A caller takes its time: the key has its rate.
                self._over.wait(0.05)

    def __enter__(self) -> Self:
        for caller in self._callers:
            caller.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for caller in self._callers:
            caller.join()

    def more(self, count: int) -> None:
        """Wait for as many answers more."""
        wanted = self.answers + count
        eventually(lambda: self.answers >= wanted or self.errors, why="answers")
