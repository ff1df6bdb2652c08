"""Waiting for a server: a probe, whether it runs, and a clock; without any process."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from servable_client import ServableError
from servable_serving.core.processes import (
    ServerEnded,
    ServerNotReady,
    last_line,
    repository_flags,
    serve_command,
    wait_until_ready,
)

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class Time:
    """A clock that only sleeping advances."""

    now: float = 1000.0
    slept: list[float] = field(default_factory=list)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float, /) -> None:
        self.slept.append(seconds)
        self.now += seconds


@dataclass
class Server:
    """A server that becomes ready at its n-th probe, or ends after some."""

    ready_at: int | None = 1
    ends_after: int | None = None
    probes: int = 0

    def __call__(self) -> int:
        self.probes += 1
        if self.ready_at is None or self.probes < self.ready_at:
            raise ServableError(f"probe {self.probes}")
        return 7

    def running(self) -> bool:
        return self.ends_after is None or self.probes < self.ends_after


def wait(server: Server, time: Time, timeout: float = 10.0) -> int:
    return wait_until_ready(server, running=server.running, timeout=timeout, clock=time)


def test_a_ready_server_is_not_waited_for() -> None:
    time = Time()
    assert wait(Server(), time) == 7
    assert time.slept == []


def test_probes_go_on_until_one_succeeds() -> None:
    server, time = Server(ready_at=4), Time()
    assert wait(server, time) == 7
    assert (server.probes, len(time.slept)) == (4, 3)


def test_failing_probes_are_not_made_without_a_pause() -> None:
    time = Time()
    wait(Server(ready_at=3), time)
    assert all(seconds > 0 for seconds in time.slept)


def test_a_server_that_ended_is_not_waited_for() -> None:
    server, time = Server(ready_at=None, ends_after=2), Time()
    with pytest.raises(ServerEnded):
        wait(server, time)
    assert server.probes == 2


def test_the_last_probes_error_is_the_cause() -> None:
    with pytest.raises(ServerEnded) as caught:
        wait(Server(ready_at=None, ends_after=3), Time())
    assert str(caught.value.__cause__) == "probe 3"


def test_the_time_is_up_for_a_server_that_never_is_ready() -> None:
    time = Time()
    with pytest.raises(ServerNotReady) as caught:
        wait(Server(ready_at=None), time, timeout=3.0)
    assert not isinstance(caught.value, ServerEnded)
    assert 3.0 <= time.now - 1000.0 < 4.0


def test_a_server_is_probed_once_even_without_any_time() -> None:
    assert wait(Server(), Time(), timeout=0.0) == 7


def test_an_answer_after_the_time_counts() -> None:
    assert wait(Server(ready_at=2), Time(), timeout=0.01) == 7


def test_another_programs_answer_does_not_count() -> None:
    with pytest.raises(ServerEnded):
        wait(Server(ready_at=1, ends_after=1), Time())


def test_an_error_that_is_not_servables_passes_through() -> None:
    def broken() -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        wait_until_ready(broken, running=lambda: True, timeout=1.0, clock=Time())


def test_flags_follow_the_command() -> None:
    command = serve_command("--port=1", "--web")
    assert command[-3:] == ["serve", "--port=1", "--web"]


def test_a_repository_is_served_by_its_configuration(tmp_path: Path) -> None:
    flags = repository_flags(tmp_path, port=1, rest_port=2)
    assert f"--model_config_file={tmp_path}/models.config" in flags
    assert {"--port=1", "--rest_api_port=2"} < set(flags)


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        (b"one\ntwo\n", "two"),
        (b"one\n\n \n", "one"),
        (b"no newline", "no newline"),
        (b"\xff bytes\n", "\N{REPLACEMENT CHARACTER} bytes"),
        (b"", "its log is empty"),
    ],
)
def test_the_last_line_of_a_log(tmp_path: Path, log: bytes, expected: str) -> None:
    (tmp_path / "log").write_bytes(log)
    assert last_line(tmp_path / "log") == expected
