"""What the demo refuses before any work, and its load generator."""

from __future__ import annotations

import signal
import socket
from typing import TYPE_CHECKING, Any

import pytest

from servable_client import ServableError
from servable_trainer.demo import load_generator
from servable_trainer.demo.demo import Demo, _check_ours, _empty
from servable_trainer.demo.load_generator import DemoError, LoadGenerator

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    """The demo sets handlers of signals for its whole process."""
    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        for sock in (one, other):
            sock.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


def demo(directory: Path, port: int, rest_port: int) -> Demo:
    return Demo(
        directory=directory,
        trials=1,
        epochs=1,
        subset=100,
        port=port,
        rest_port=rest_port,
        keep=False,
        data=None,
    )


def test_a_directory_of_other_origin_is_left_alone(tmp_path: Path) -> None:
    precious = tmp_path / "precious.txt"
    precious.write_text("a year's work")
    with pytest.raises(DemoError) as caught:
        demo(tmp_path, *free_ports()).run()
    assert "--directory" in str(caught.value.hint)
    assert precious.read_text() == "a year's work"


def test_both_servers_cannot_have_one_port(tmp_path: Path) -> None:
    port = free_ports()[0]
    with pytest.raises(DemoError, match=str(port)):
        demo(tmp_path / "work", port, port).run()


@pytest.mark.parametrize("option", ["--port", "--rest-api-port"])
def test_a_port_in_use_is_reported_with_its_option(tmp_path: Path, option: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port, free = taken.getsockname()[1], free_ports()[0]
        ports = (port, free) if option == "--port" else (free, port)
        with pytest.raises(ServableError, match=str(port)) as caught:
            demo(tmp_path / "work", *ports).run()
    assert option in str(caught.value.hint)
    assert not (tmp_path / "work").exists()


def test_an_empty_or_missing_directory_is_used(tmp_path: Path) -> None:
    _check_ours(tmp_path)
    _check_ours(tmp_path / "missing")


def test_the_directory_of_an_earlier_demo_is_emptied(tmp_path: Path) -> None:
    work = tmp_path / "work"
    _empty(work)
    (work / "run-1").mkdir()
    _check_ours(work)
    _empty(work)
    assert not (work / "run-1").exists()
    _check_ours(work)


def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DemoError):
        _empty(tmp_path / "file" / "work")


def test_waiting_for_requests_ends_when_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_generator, "_SWITCH_SECONDS", 0.0)
    monkeypatch.setattr(load_generator, "_PAUSE_SECONDS", 0.0)
    dataset: Any = None
    with pytest.raises(DemoError, match="grpc://x"):
        LoadGenerator("grpc://x", dataset).wait_for_more(1)


def test_waiting_for_no_requests_returns_at_once() -> None:
    dataset: Any = None
    LoadGenerator("grpc://x", dataset).wait_for_more(0)
