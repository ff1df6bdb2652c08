"""Servers in processes of their own, with tiny programs in the place of servers."""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from tests.conftest import free_port
from tests.functional.serving.calls import eventually

from servable_client import ServableError
from servable_serving.core.processes import ServerEnded, ServerNotReady, ServerProcess
from servable_serving.stack.background import Background
from servable_serving.stack.compose import StackError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

READY = """
import pathlib, sys, time
print("starting", flush=True)
pathlib.Path(sys.argv[1]).touch()
while True:
    time.sleep(60)
"""
STUBBORN = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + READY
FAILING = "import sys\nprint('loading')\nsys.exit('no such model')"


@dataclass(frozen=True)
class FileProbe:
    """A server is ready when its file is there."""

    file: Path

    def __call__(self) -> int:
        if not self.file.exists():
            raise ServableError("there is no file yet")
        return 3


def program(code: str, *arguments: object) -> list[str]:
    return [sys.executable, "-c", code, *map(str, arguments)]


@pytest.fixture
def ready(tmp_path: Path) -> Path:
    return tmp_path / "ready"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


def test_a_server_is_started_awaited_and_stopped(ready: Path, log: Path) -> None:
    with ServerProcess.running(program(READY, ready), log) as server:
        assert server.wait_until_ready(FileProbe(ready), timeout=60) == 3
        assert server.exit_status is None
        assert not server.ends_within(0)
    assert server.exit_status == -signal.SIGTERM
    assert log.read_text() == "starting\n"


def test_a_server_that_ignores_sigterm_is_killed(ready: Path, log: Path) -> None:
    server = ServerProcess.start(program(STUBBORN, ready), log)
    server.wait_until_ready(FileProbe(ready), timeout=60)
    server.stop(grace=0.1)
    assert server.exit_status == -signal.SIGKILL


def test_a_server_that_ends_is_noticed(ready: Path, log: Path) -> None:
    with (
        ServerProcess.running(program(FAILING), log) as server,
        pytest.raises(ServerEnded),
    ):
        server.wait_until_ready(FileProbe(ready), timeout=60)
    assert server.exit_status == 1
    assert server.last_line() == "no such model"


def test_a_server_that_is_never_ready_is_given_up(tmp_path: Path, ready: Path, log: Path) -> None:
    with ServerProcess.running(program(READY, ready), log) as server:
        with pytest.raises(ServerNotReady):
            server.wait_until_ready(FileProbe(tmp_path / "another"), timeout=0.2)
        assert server.exit_status is None


def test_stopping_a_server_that_has_ended_does_nothing(log: Path) -> None:
    server = ServerProcess.start(program(FAILING), log)
    assert server.ends_within(60)
    server.stop()
    assert server.exit_status == 1


def test_a_program_that_is_missing_is_told(tmp_path: Path, log: Path) -> None:
    with pytest.raises(ServableError, match=r"cannot start .*/missing: No such file"):
        ServerProcess.start([str(tmp_path / "missing")], log)


def test_a_server_has_the_environment_that_is_given(log: Path) -> None:
    code = "import os; print(os.environ['GIVEN'])"
    server = ServerProcess.start(program(code), log, env={**os.environ, "GIVEN": "value"})
    assert server.ends_within(60)
    assert server.last_line() == "value"


def test_a_server_is_out_of_the_terminals_reach(ready: Path, log: Path) -> None:
    with ServerProcess.running(program(READY, ready), log) as server:
        assert os.getsid(server.pid) == server.pid
        assert os.getsid(0) != server.pid


@dataclass(frozen=True)
class Fake:
    """Makes the command of a program that holds what it is given, for a background server."""

    code: str
    ready: Path

    def __call__(self, models: Path, *, port: int, rest_port: int) -> list[str]:  # noqa: ARG002
        return program(self.code, self.ready)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "models.config").touch()
    return tmp_path / "models"


@pytest.fixture
def background(tmp_path: Path, ready: Path) -> Iterator[Background]:
    background = Background(tmp_path / "up", Fake(READY, ready))
    yield background
    background.down()


def up(background: Background, models: Path, timeout: float) -> None:
    background.up(models, "any", port=free_port(), rest_port=free_port(), timeout=timeout)


def test_a_background_server_that_is_never_available_is_stopped(
    background: Background, models: Path, ready: Path
) -> None:
    with pytest.raises(StackError, match="not available after"):
        up(background, models, 0.1)
    assert not background.runs()
    # It had been started, or was stopped before it came that far.
    assert background.log.read_text() in {"", "starting\n"}
    assert not (background.folder / "server.json").exists()
    ready.unlink(missing_ok=True)


def test_a_background_server_that_ends_says_why(tmp_path: Path, models: Path, ready: Path) -> None:
    background = Background(tmp_path / "up", Fake(FAILING, ready))
    with pytest.raises(StackError, match="did not start: no such model") as caught:
        up(background, models, 60)
    assert str(background.log) in (caught.value.hint or "")
    assert not background.runs()


def test_a_process_number_of_another_process_is_not_taken_for_the_server(
    background: Background,
) -> None:
    # As a server that was killed leaves it, whose number another process has now: this one.
    background.folder.mkdir()
    (background.folder / "server.json").write_text(json.dumps({"process": os.getpid()}))
    assert not background.runs()
    assert not background.down()


def test_a_background_server_is_found_by_its_lock_and_stopped(
    background: Background, ready: Path
) -> None:
    background.folder.mkdir()
    state = background.folder / "server.json"
    code = "import fcntl, sys\nfcntl.flock(int(sys.argv[2]), fcntl.LOCK_EX)\n" + READY
    with state.open("a") as file:
        server = ServerProcess.start(
            program(code, ready, file.fileno()), background.log, pass_fds=[file.fileno()]
        )
    state.write_text(json.dumps({"process": server.pid}))
    eventually(ready.exists)
    assert background.runs()
    assert background.down()
    assert server.ends_within(60)
    assert not background.runs()
