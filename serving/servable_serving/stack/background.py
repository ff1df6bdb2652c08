"""The embedded server in the background, where there is no Docker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from servable_serving.core.locks import taken
from servable_serving.core.processes import last_line, serve_command
from servable_serving.core.sockets import check_free
from servable_serving.stack.compose import StackError

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOOK_SECONDS = 0.1
# Longer than the server gives to requests under way.
_GRACE_SECONDS = 20.0


@dataclass(frozen=True)
class Background:
    """A server that outlives the command that started it.

    It holds a lock on its file for as long as it lives, so that a process number that has come
    to another process is never taken for it.

    Args:
        folder: Where its file and its log lie.
    """

    folder: Path = Path("build/up")

    @property
    def _file(self) -> Path:
        return self.folder / "server.json"

    @property
    def log(self) -> Path:
        """What it says."""
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
        """Start it where it does not run, and wait until the model is available.

        Returns:
            Where to ask, and its process.

        Raises:
            StackError: It does not come up; none is left running.
        """
        with self._opened() as file:
            if not taken(file):
                return self._wait(self._told(), model, timeout)
            config = models / "models.config"
            if not config.is_file():
                raise StackError(
                    f"{config} is missing", hint="run it in Servable's folder, or name --models"
                )
            for number, flag in ((port, "--port"), (rest_port, "--rest-api-port")):
                check_free(number, flag, error=StackError)
            with self.log.open("wb") as output:
                process = subprocess.Popen(
                    [*serve_command(models, port=port, rest_port=rest_port), "--web"],
                    stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                    # Out of this terminal's reach; the lock goes with the open file.
                    start_new_session=True, pass_fds=[file.fileno()],
                )  # fmt: skip
            told = {
                "by": "the embedded server",
                "grpc": f"grpc://localhost:{port}",
                "rest": f"http://localhost:{rest_port}",
                "tls": None,
                "process": process.pid,
                "log": str(self.log),
            }
            file.truncate(0)
            file.write(json.dumps(told))
            file.flush()
        try:
            return self._wait(told, model, timeout)
        except BaseException:
            self.down()
            process.wait()
            raise

    def _opened(self) -> IO[str]:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            return self._file.open("a+")
        except OSError as error:
            raise StackError(f"cannot write to {self.folder}: {error.strerror}") from error

    def down(self) -> bool:
        """End it; whether it ran.

        Raises:
            StackError: It cannot be ended.
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
        raise StackError(f"the server, process {process}, does not end")

    def _told(self) -> dict[str, Any]:
        """What stands in its file; who holds the lock is about to write it."""
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
        from servable_client import Client, ServableError

        end = time.monotonic() + timeout
        with Client(told["grpc"], model=model) as client:
            while True:
                try:
                    version = client.wait_until_available(timeout=0.5)
                except ServableError as error:
                    if not self.runs():
                        raise StackError(
                            f"the server did not come up: {last_line(self.log)}",
                            hint=f"see {self.log}",
                        ) from error
                    if time.monotonic() > end:
                        raise StackError(
                            f"{model} is not available after {timeout:g} seconds: {error}",
                            hint=f"see {self.log}",
                        ) from error
                else:
                    return {**told, "model": model, "version": version}


@contextmanager
def _unless_gone() -> Iterator[None]:
    try:
        yield
    except ProcessLookupError:
        pass
    except PermissionError as error:
        raise StackError("the server is another user's; let that user end it") from error
