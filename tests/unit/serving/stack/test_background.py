"""What a background server decides before it starts anything."""

from __future__ import annotations

import json
import os
import socket
from typing import TYPE_CHECKING

import pytest

from servable_serving.core.locks import locked
from servable_serving.core.sockets import free_ports
from servable_serving.stack.background import Background, embedded_server
from servable_serving.stack.compose import StackError

if TYPE_CHECKING:
    from pathlib import Path


def never(models: Path, *, port: int, rest_port: int) -> list[str]:
    raise AssertionError(f"started for {models}, {port}, {rest_port}")


@pytest.fixture
def background(tmp_path: Path) -> Background:
    return Background(tmp_path / "up", never)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "models.config").touch()
    return tmp_path / "models"


def test_nothing_runs_in_a_fresh_folder(background: Background) -> None:
    assert not background.runs()
    assert not background.folder.exists()


def test_a_server_runs_while_its_lock_is_held(background: Background) -> None:
    background.folder.mkdir()
    with locked(background.folder / "server.json"):
        assert background.runs()
    assert not background.runs()


def test_asking_whether_it_runs_does_not_take_its_lock(background: Background) -> None:
    background.folder.mkdir()
    (background.folder / "server.json").touch()
    assert not background.runs()
    assert not background.runs()


def test_stopping_what_does_not_run_does_nothing(background: Background) -> None:
    background.folder.mkdir()
    # This process's own number, which it must not be taken for.
    (background.folder / "server.json").write_text(json.dumps({"process": os.getpid()}))
    assert not background.down()


def test_a_repository_without_models_config_is_refused(
    background: Background, tmp_path: Path
) -> None:
    one, other = free_ports(2)
    with pytest.raises(StackError, match=r"models\.config") as caught:
        background.up(tmp_path / "none", "m", port=one, rest_port=other, timeout=1)
    assert "--models" in (caught.value.hint or "")
    assert not background.runs()


@pytest.mark.parametrize(("which", "flag"), [(0, "--port"), (1, "--rest-api-port")])
def test_a_port_in_use_is_refused(
    background: Background, models: Path, which: int, flag: str
) -> None:
    ports = free_ports(2)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ports[which] = taken.getsockname()[1]
        with pytest.raises(StackError) as caught:
            background.up(models, "m", port=ports[0], rest_port=ports[1], timeout=1)
    assert flag in (caught.value.hint or "").split()
    assert not background.runs()


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path, models: Path) -> None:
    (tmp_path / "file").touch()
    one, other = free_ports(2)
    with pytest.raises(StackError, match="file"):
        Background(tmp_path / "file", never).up(models, "m", port=one, rest_port=other, timeout=1)


def test_the_embedded_server_has_the_web_page(tmp_path: Path) -> None:
    command = embedded_server(tmp_path, port=1, rest_port=2)
    assert "--web" in command
    assert f"--model_repository_path={tmp_path}" in command
