"""Starting, ending, and what ends by itself."""

from __future__ import annotations

import pytest

from servable_serving.gateway.supervise import Supervisor


class FakeNginx:
    """A process that ends when it is told to quit, or by itself."""

    def __init__(self, status: int = 0) -> None:
        self.status = status
        self.calls: list[str] = []
        self.crashed = False

    def start(self) -> None:
        self.calls.append("start")

    def quit(self) -> None:
        self.calls.append("quit")

    def poll(self) -> int | None:
        return self.status if self.crashed else None

    def wait(self) -> int:
        self.calls.append("wait")
        return self.status


class FakeWorker:
    def __init__(self) -> None:
        self.started = False
        self.dead = False

    def start(self) -> None:
        self.started = True

    def is_alive(self) -> bool:
        return not self.dead


class FakeStop:
    """An event whose waits take no time; `rounds` of them pass before it is set."""

    def __init__(self, rounds: int = 10**6) -> None:
        self.left = rounds
        self._set = False

    def set(self) -> None:
        self._set = True

    def is_set(self) -> bool:
        return self._set

    def wait(self, timeout: float) -> bool:
        assert timeout > 0
        self.left -= 1
        if self.left < 0:
            self._set = True
        return self._set


def nothing() -> None:
    """A step that finds nothing."""


def test_it_steps_until_it_is_stopped() -> None:
    steps: list[int] = []
    stop = FakeStop(rounds=3)
    assert Supervisor(FakeNginx(), FakeWorker(), lambda: steps.append(1), stopping=stop).run() == 0
    assert len(steps) == 3


def test_nginx_is_told_to_quit_and_waited_for() -> None:
    nginx = FakeNginx()
    Supervisor(nginx, FakeWorker(), nothing, stopping=FakeStop(rounds=1)).run()
    assert nginx.calls == ["start", "quit", "wait"]


def test_a_graceful_end_has_nginxs_status() -> None:
    nginx = FakeNginx(status=130)
    assert Supervisor(nginx, FakeWorker(), nothing, stopping=FakeStop(rounds=1)).run() == 130


@pytest.mark.parametrize("status", [0, 1])
def test_nginx_that_ends_by_itself_is_a_failure(status: int) -> None:
    nginx = FakeNginx(status=status)
    nginx.crashed = True
    assert Supervisor(nginx, FakeWorker(), nothing, stopping=FakeStop()).run() == 1


def test_nothing_is_reloaded_once_nginx_has_ended() -> None:
    nginx, steps = FakeNginx(), list[int]()
    nginx.crashed = True
    Supervisor(nginx, FakeWorker(), lambda: steps.append(1), stopping=FakeStop()).run()
    assert steps == []


def test_a_readiness_check_that_ends_ends_the_gateway() -> None:
    nginx, worker = FakeNginx(), FakeWorker()
    worker.dead = True
    assert Supervisor(nginx, worker, nothing, stopping=FakeStop()).run() == 1
    assert nginx.calls == ["start", "quit", "wait"]


def test_a_step_that_fails_leaves_no_nginx_behind() -> None:
    nginx = FakeNginx()

    def fail() -> None:
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        Supervisor(nginx, FakeWorker(), fail, stopping=FakeStop()).run()
    assert nginx.calls == ["start", "quit", "wait"]


def test_a_stop_before_the_start_is_not_lost() -> None:
    nginx = FakeNginx()
    supervisor = Supervisor(nginx, FakeWorker(), nothing, stopping=FakeStop())
    supervisor.stop()
    assert supervisor.run() == 0
    assert nginx.calls[:3] == ["quit", "start", "quit"]


def test_a_stop_between_steps() -> None:
    nginx = FakeNginx()
    stop = FakeStop()
    assert Supervisor(nginx, FakeWorker(), stop.set, stopping=stop).run() == 0
    assert nginx.calls == ["start", "quit", "wait"]


def test_it_says_once_that_it_stops(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "servable.gateway")
    supervisor = Supervisor(FakeNginx(), FakeWorker(), nothing, stopping=FakeStop())
    supervisor.stop()
    supervisor.stop()
    assert len(caplog.records) == 1


def test_it_reports_its_start_once_all_runs() -> None:
    nginx, worker = FakeNginx(), FakeWorker()
    seen: list[tuple[list[str], bool]] = []
    Supervisor(nginx, worker, nothing, stopping=FakeStop(rounds=0)).run(
        lambda: seen.append((list(nginx.calls), worker.started))
    )
    assert seen == [(["start"], True)]
