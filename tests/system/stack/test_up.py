"""`servable up` and `servable down`: with Docker Compose, and where there is no Docker."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import requests
from tests.conftest import NAME, ROOT, SHIPPED, free_port, only_sentence
from tests.forked import servable
from tests.system.stack.stacks import Stack, eventually, readme_curls, run

from servable_client import Client

if TYPE_CHECKING:
    from collections.abc import Iterator

BLANK = np.zeros((28, 28), np.uint8)


class Place:
    """A folder with the shipped model, from which the commands are called."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(SHIPPED, folder / "models" / NAME / "1")
        shutil.copy(ROOT / "models" / "models.config.template", folder / "models")
        self.ports = ("--port", free_port(), "--rest-api-port", free_port())

    def __call__(self, *arguments: object) -> Any:
        # A PATH on which there is no docker.
        environment = {**os.environ, "PATH": str(Path(sys.executable).parent)}
        return servable(*arguments, cwd=self.folder, env=environment)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place("down")


def test_without_docker_the_embedded_server_comes_up_and_goes_down(place: Place) -> None:
    done = place("up", *place.ports, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["by"], told["version"]) == ("the embedded server", 1)
    for server in (told["grpc"], told["rest"]):
        with Client(server, model=NAME, label="stable") as client:
            assert client.classify(BLANK).version == 1
    assert "<html" in requests.get(told["rest"], timeout=60).text
    # What is up is left as it is.
    again = place("up", *place.ports, "--json")
    assert json.loads(again.stdout)["process"] == told["process"]
    done = place("down")
    assert (done.returncode, done.stderr.strip()) == (0, "stopped the embedded server")
    with pytest.raises(requests.ConnectionError):
        requests.get(told["rest"], timeout=5)
    done = place("down", "--json")
    assert (done.returncode, json.loads(done.stdout)) == (0, {"ended": []})


def test_a_port_in_use_is_told_and_nothing_is_left_behind(place: Place) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = place("up", "--port", port)
    assert str(port) in only_sentence(done)
    assert "--port" in done.stderr
    assert "nothing was running" in place("down").stderr


def test_a_repository_without_its_configuration_is_told(place: Place) -> None:
    (place.folder / "models" / "models.config.template").unlink()
    assert "models.config is missing" in only_sentence(place("up", *place.ports))


def test_a_folder_that_cannot_be_written_is_told(place: Place) -> None:
    (place.folder / "build").write_text("no folder")
    assert "cannot write to build/up" in only_sentence(place("up", *place.ports))


def test_a_server_that_does_not_come_up_says_why(place: Place) -> None:
    (place.folder / "models" / "models.config").write_text("no such thing {")
    done = place("up", *place.ports)
    assert "did not start" in only_sentence(done)
    assert "server.log" in done.stderr
    assert "nothing was running" in place("down").stderr


@pytest.fixture
def project(images: None, tmp_path: Path) -> Iterator[Stack]:  # noqa: ARG001
    stack = Stack(f"servable-test-up-{os.getpid()}", tmp_path / "stack")
    # Nobody's keys: only this machine is answered, and everybody on it.
    for keys in (stack.folder / "keys").iterdir():
        keys.unlink()
    stack.environment["COMPOSE_PROJECT_NAME"] = stack.name
    yield stack
    stack.end()


@pytest.mark.docker
@pytest.mark.timeout(1800)
def test_with_docker_compose_comes_up_and_goes_down(project: Stack) -> None:
    def command(*arguments: object) -> Any:
        return run(
            sys.executable, "-m", "servable_client", *arguments,
            cwd=ROOT, env=project.environment, timeout=900,
        )  # fmt: skip

    done = command("up", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["by"] == "docker compose"
    assert [told[name].rpartition(":")[2] for name in ("grpc", "rest", "tls")] == [
        str(project.ports[port]) for port in ("GRPC", "REST", "TLS")
    ]
    for server in (told["grpc"], told["rest"]):
        with Client(server, model=NAME, label="stable", timeout=60) as client:
            assert client.classify(BLANK).version == 1
    assert "<html" in requests.get(told["rest"], timeout=60).text
    commands = [line for line in readme_curls() if "$KEY" not in line]
    assert commands
    for line in commands:
        done = run("bash", "-ec", line.replace(":8501", f":{project.ports['REST']}"))
        assert "AVAILABLE" in done.stdout, (line, done.stderr)
    done = command("down")
    assert (done.returncode, project.containers(ended=True)) == (0, [])
    assert "stopped docker compose" in done.stderr
    assert "nothing was running" in command("down").stderr


@pytest.mark.docker
@pytest.mark.timeout(1800)
def test_without_keys_it_does_not_open_to_others(project: Stack) -> None:
    project.environment["SERVABLE_BIND"] = "0.0.0.0"
    project("up", "--detach", "--no-deps", "certificates", "gateway")
    eventually(lambda: "without API keys" in project("logs", "gateway"))
    assert "SERVABLE_API_KEYS_FILE" in project("logs", "gateway")
