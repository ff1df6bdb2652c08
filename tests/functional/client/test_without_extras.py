"""Every command where `pip install .` has installed no extra."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest
import typer.main
from tests.base_install import run_without_extras
from tests.conftest import NAME, ROOT, SHIPPED, free_port, only_sentence

from servable_client.cli.app import build

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

_REPOSITORY = f"models/{NAME}"
_URL = "memory://models"
# The extra that each command asks for, and its arguments.
_NEED = {
    "serve": ("serving", [f"--model_base_path={_REPOSITORY}"]),
    "sync": ("remote", [_URL, "mirror"]),
    "gateway": ("gateway", []),
    "gateway-metrics": ("remote", ["--port", "0", "--syslog-port", "0"]),
    "up": ("serving", ["--embedded", "--port", "PORT", "--rest-api-port", "PORT"]),
    "canary": ("remote", ["2", "--repository", _REPOSITORY]),
    "drift": ("remote", []),
    "shadow": ("remote", ["2", "--repository", _REPOSITORY]),
    "push": ("serving", [f"{_REPOSITORY}/1", "--repository", "new", "--no-wait"]),
    "push to a URL": ("remote", [f"{_REPOSITORY}/1", "--repository", _URL]),
    "promote at a URL": ("remote", ["1", "--repository", _URL]),
    "rollback at a URL": ("remote", ["--to", "1", "--repository", _URL]),
    "diff": ("trainer", ["1", "1", "--repository", _REPOSITORY]),
    "data fetch": ("trainer", []),
    "tune": ("trainer", []),
    "tune --dataset": ("trainer", ["--dataset", "models"]),
    "tune --model": ("trainer", ["--model", "my_network:build"]),
    "train": ("trainer", []),
    "train --dataset": ("trainer", ["--dataset", "models"]),
    "train --model": ("trainer", ["--model", "my_network:build"]),
    "evaluate": ("trainer", [f"{_REPOSITORY}/1"]),
    "evaluate an endpoint": ("trainer", ["grpc://localhost:1"]),
    "compare": ("trainer", []),
    "export": ("trainer", ["network.keras"]),
    "export --tuner": ("trainer", ["--tuner", "project", "--model", "my_network:build"]),
    "demo": ("trainer", []),
}
# Commands that need no extra, for servers and folders.
_WORK = {
    "down": [],
    "versions": ["--repository", _REPOSITORY, "--offline"],
    "history": ["--repository", _REPOSITORY],
    "verify": ["--repository", _REPOSITORY],
    "prune": ["--repository", _REPOSITORY, "--offline", "--keep", "3"],
    "promote": ["1", "--repository", _REPOSITORY, "--no-wait"],
    "rollback": ["--to", "1", "--repository", _REPOSITORY, "--no-wait"],
}
# Commands of the client, whose own tests run them.
_OF_CLIENT = {"classify", "predict", "status", "wait"}


def _commands(group: Any, name: str = "") -> Iterator[str]:
    if not hasattr(group, "commands"):
        yield name
        return
    for word, command in group.commands.items():
        yield from _commands(command, f"{name} {word}".strip())


def _name(case: str) -> str:
    """The command of a case."""
    words = case.split()
    return case if case == "data fetch" else words[0]


def test_every_command_is_tested() -> None:
    tested = {_name(case) for case in (*_NEED, *_WORK)} | _OF_CLIENT
    assert set(_commands(typer.main.get_command(build()))) == tested


@pytest.fixture(scope="module")
def ran(
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, subprocess.CompletedProcess[str]]:
    folder: Path = tmp_path_factory.mktemp("base")
    shutil.copytree(SHIPPED, folder / _REPOSITORY / "1")
    shutil.copy(ROOT / "models" / "models.config.template", folder / "models")
    cases = {case: arguments for case, (_, arguments) in _NEED.items()} | _WORK
    return run_without_extras(
        {
            case: [
                *_name(case).split(),
                *(str(free_port()) if word == "PORT" else word for word in arguments),
            ]
            for case, arguments in cases.items()
        },
        folder,
    )


@pytest.mark.parametrize("case", _NEED)
def test_a_command_names_the_extra_that_it_needs(
    case: str, ran: dict[str, subprocess.CompletedProcess[str]]
) -> None:
    only_sentence(ran[case])
    assert f"pip install '.[{_NEED[case][0]}]'" in ran[case].stderr


@pytest.mark.parametrize("case", _WORK)
def test_a_command_works_without_extras(
    case: str, ran: dict[str, subprocess.CompletedProcess[str]]
) -> None:
    assert ran[case].returncode == 0, ran[case].stderr
