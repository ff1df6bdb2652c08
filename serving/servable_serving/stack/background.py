"""The embedded server in the background, if there is no Docker."""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

from servable_serving.core.locks import taken
from servable_serving.core.processes import (
    ServerEnded,
    ServerNotReady,
    ServerProcess,
    last_line,
    model_probe,
    repository_flags,
    serve_command,
    wait_until_ready,
)
from servable_serving.core.sockets import check_free
from servable_serving.repository.models_config import ModelsConfig
from servable_serving.stack.compose import StackError

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOOK_SECONDS = 0.1
# Longer than the server's shutdown grace period.
_GRACE_SECONDS = 20.0


class Command(Protocol):
    """Makes the command line of a server."""

    def __call__(self, models: Path, *, port: int, rest_port: int) -> list[str]:
        """The program and its arguments."""
        ...


def embedded_server(models: Path, *, port: int, rest_port: int) -> list[str]:
    """The command line of the embedded server, with the web page."""
    return serve_command(*repository_flags(models, port=port, rest_port=rest_port), "--web")


@dataclass(frozen=True)
class Background:
    """A server that outlives the command that started it.

    It holds a lock on its state file while it runs, so that a process number which the system has
    given to another process since is never mistaken for it.

    Args:
        folder: The folder of its state file and its log.
        command: The command line for a folder of models and two ports.
    """

    folder: Path = Path("build/up")
    command: Command = embedded_server

    @property
    def _file(self) -> Path:
        return self.folder / "server.json"

    @property
    def log(self) -> Path:
        """The file with its output."""
        return self.folder / "server.log"

    def runs(self) -> bool:
        """Whether it runs."""
        if not self._file.exists():
            return False
        with self._file.open() as file:
            return not taken(file)

    def up(
        self, models: Path, model: str, *, port: int, rest_port: int, timeout: float
    ) -> dict[str, Any]:
        """Start it unless it runs, and wait until the model is available.

        Returns:
            Its addresses, its process and its log.

        Raises:
            StackError: It does not start or the model is not available in time; a server that
                this call started is stopped.
        """
        with self._opened() as file:
            if not taken(file):
                return self._wait(self._told(), model, timeout)
            config = ModelsConfig(models)
            if not config.exists:
                raise StackError(
                    f"{config.path} is missing",
                    hint="run it in Servable's folder, or name --models",
                )
            for number, flag in ((port, "--port"), (rest_port, "--rest-api-port")):
                check_free(number, flag, error=StackError)
            server = ServerProcess.start(
                self.command(models, port=port, rest_port=rest_port),
                self.log,
                pass_fds=[file.fileno()],  # the lock, which the file's last holder keeps
            )
            told = {
                "by": "the embedded server",
                "grpc": f"grpc://localhost:{port}",
                "rest": f"http://localhost:{rest_port}",
                "tls": None,
                "process": server.pid,
                "log": str(self.log),
            }
            file.truncate(0)
            file.write(json.dumps(told))
            file.flush()
        try:
            return self._wait(told, model, timeout)
        except BaseException:
            server.stop(_GRACE_SECONDS)
            self._file.unlink(missing_ok=True)
            raise

    def _opened(self) -> IO[str]:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            return self._file.open("a+")
        except OSError as error:
            raise StackError(f"cannot write to {self.folder}: {error.strerror}") from error

    def down(self) -> bool:
        """Stop it; whether it ran.

        Raises:
            StackError: It cannot be stopped.
        """
        if not self.runs():
            return False
        process = int(self._told()["process"])
        for number, seconds in ((signal.SIGTERM, _GRACE_SECONDS), (signal.SIGKILL, 5.0)):
            with _unless_gone():
                os.kill(process, number)
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                if not self.runs():
                    self._file.unlink(missing_ok=True)
                    return True
                time.sleep(_LOOK_SECONDS)
        raise StackError(f"the server, process {process}, does not stop")

    def _told(self) -> dict[str, Any]:
        """The content of its state file, which the lock's holder may be about to write."""
        end = time.monotonic() + 5
        while True:
            try:
                told: dict[str, Any] = json.loads(self._file.read_text())
            except ValueError:
                if time.monotonic() > end:
                    raise StackError(f"{self._file} cannot be read") from None
                time.sleep(_LOOK_SECONDS)
            else:
                return told

    def _wait(self, told: dict[str, Any], model: str, timeout: float) -> dict[str, Any]:
        # By the lock rather than the process, which another command may have started.
        with model_probe(told["grpc"], model) as probe:
            try:
                version = wait_until_ready(probe, running=self.runs, timeout=timeout)
            except ServerEnded as error:
                raise StackError(
                    f"the server did not start: {last_line(self.log)}", hint=f"see {self.log}"
                ) from error
            except ServerNotReady as error:
                raise StackError(f"{model} is {error}", hint=f"see {self.log}") from error
        return {**told, "model": model, "version": version}


@contextmanager
def _unless_gone() -> Iterator[None]:
    try:
        yield
    except ProcessLookupError:
        pass
    except PermissionError as error:
        raise StackError("the server belongs to another user, who must stop it") from error
