"""What Docker Compose is asked to do, by a program that stands in for docker."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from servable_serving.stack.compose import Compose, StackError

MODELS = Path("models")


@dataclass
class Docker:
    """Answers commands by how they begin; records what it is asked."""

    statuses: dict[str, int] = field(default_factory=dict)
    output: dict[str, str] = field(default_factory=dict)
    installed: bool = True
    commands: list[str] = field(default_factory=list)
    environments: list[dict[str, str]] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)

    def __call__(
        self, command: list[str], *, folder: Path, environment: dict[str, str], shown: bool
    ) -> subprocess.CompletedProcess[str]:
        assert command[0] == "docker"
        assert folder.is_dir()
        if not self.installed:
            raise FileNotFoundError(2, "No such file or directory", "docker")
        line = " ".join(command[1:])
        self.commands.append(line)
        self.environments.append(environment)
        if shown:
            self.shown.append(line)
        return subprocess.CompletedProcess(
            command,
            next((s for part, s in self.statuses.items() if part in line), 0),
            next((o for part, o in self.output.items() if part in line), ""),
            "",
        )


@pytest.fixture
def docker() -> Docker:
    return Docker(
        output={"port gateway 8500": "0.0.0.0:18500\n", "port gateway 8501": "[::]:18501\n",
                "port gateway 8443": "127.0.0.1:18443\n", "ps": "0123456789ab\n"}
    )  # fmt: skip


@pytest.fixture
def compose(docker: Docker, tmp_path: Path) -> Compose:
    return Compose(tmp_path, docker, "x86_64")


def test_docker_with_compose_answers(compose: Compose) -> None:
    assert compose.answers()


@pytest.mark.parametrize("failing", ["info", "compose version"])
def test_docker_that_fails_does_not_answer(compose: Compose, docker: Docker, failing: str) -> None:
    docker.statuses[failing] = 1
    assert not compose.answers()


def test_docker_that_is_missing_does_not_answer(compose: Compose, docker: Docker) -> None:
    docker.installed = False
    assert not compose.answers()


def test_the_addresses_are_those_that_are_published(compose: Compose) -> None:
    assert compose.up(MODELS, "fashion_mnist", 300) == {
        "by": "docker compose",
        "model": "fashion_mnist",
        "grpc": "grpc://localhost:18500",
        "rest": "http://localhost:18501",
        "tls": "https://localhost:18443",
    }


def test_compose_waits_until_all_is_healthy(compose: Compose, docker: Docker) -> None:
    compose.up(MODELS, "fashion_mnist", 299.6)
    assert docker.commands[0] == "compose up --detach --wait --wait-timeout 300"


def test_the_progress_is_shown_and_the_ports_are_not(compose: Compose, docker: Docker) -> None:
    compose.up(MODELS, "fashion_mnist", 300)
    assert docker.shown == docker.commands[:1]


def test_the_usual_repository_leaves_settings_to_env(compose: Compose, docker: Docker) -> None:
    compose.up(MODELS, "fashion_mnist", 300)
    assert "SERVABLE_MODELS_ROOT" not in docker.environments[0]


@pytest.mark.parametrize(("models", "model"), [("elsewhere", "fashion_mnist"), ("models", "tiny")])
def test_another_repository_or_model_is_passed_on(
    compose: Compose, docker: Docker, models: str, model: str
) -> None:
    compose.up(Path(models), model, 300)
    assert docker.environments[0]["SERVABLE_MODEL"] == model
    assert docker.environments[0]["SERVABLE_MODELS_ROOT"] == str(Path(models).resolve())


def test_a_stack_that_does_not_start_is_an_error(compose: Compose, docker: Docker) -> None:
    docker.statuses["compose up"] = 17
    with pytest.raises(StackError) as caught:
        compose.up(MODELS, "fashion_mnist", 300)
    assert "--embedded" in (caught.value.hint or "")
    assert len(docker.commands) == 1


def test_a_stack_that_runs_is_stopped(compose: Compose, docker: Docker) -> None:
    assert compose.down()
    assert docker.commands[-1] == "compose --profile * down"


def test_a_stack_without_containers_is_left_alone(compose: Compose, docker: Docker) -> None:
    docker.output["ps"] = "\n"
    assert not compose.down()
    assert len(docker.commands) == 1


def test_a_stack_that_does_not_stop_is_an_error(compose: Compose, docker: Docker) -> None:
    docker.statuses["down"] = 1
    with pytest.raises(StackError):
        compose.down()


@pytest.mark.parametrize("machine", ["arm64", "aarch64"])
def test_arm_gets_the_embedded_server(docker: Docker, tmp_path: Path, machine: str) -> None:
    Compose(tmp_path, docker, machine).down()
    assert docker.environments[0]["SERVABLE_SERVING"] == "embedded"


def test_other_machines_get_tensorflow_serving(compose: Compose, docker: Docker) -> None:
    compose.down()
    assert "SERVABLE_SERVING" not in docker.environments[0]


@pytest.mark.parametrize("line", ["SERVABLE_SERVING=gpu", "  SERVABLE_SERVING=gpu"])
def test_a_setting_in_env_is_not_overridden(docker: Docker, tmp_path: Path, line: str) -> None:
    (tmp_path / ".env").write_text(f"OTHER=1\n{line}\n")
    Compose(tmp_path, docker, "arm64").down()
    assert "SERVABLE_SERVING" not in docker.environments[0]


@pytest.mark.parametrize("line", ["# SERVABLE_SERVING=gpu", "SERVABLE_SERVING_PORT=1", ""])
def test_other_lines_of_env_are_no_setting(docker: Docker, tmp_path: Path, line: str) -> None:
    (tmp_path / ".env").write_text(f"{line}\n")
    Compose(tmp_path, docker, "arm64").down()
    assert docker.environments[0]["SERVABLE_SERVING"] == "embedded"


def test_the_environment_takes_precedence(
    docker: Docker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVABLE_SERVING", "gpu")
    Compose(tmp_path, docker, "arm64").down()
    assert docker.environments[0]["SERVABLE_SERVING"] == "gpu"


@pytest.mark.parametrize(
    ("content", "ours"),
    [("name: servable\n", True), ("name: another\n", False), (None, False)],
)
def test_only_servables_own_compose_file_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, ours: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / "docker-compose.yml").write_text(content)
    found = Compose.here()
    assert (found is not None and found.folder == tmp_path) == ours
