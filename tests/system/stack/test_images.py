"""The images of our own."""

from __future__ import annotations

import json
from importlib.metadata import version

import pytest
from tests.conftest import NAME, ROOT
from tests.system.stack.stacks import eventually, run

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1800)]


@pytest.fixture(params=["serving_image", "trainer_image", "gateway_image"])
def image(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param))


def test_it_is_nobodys_root_and_says_what_it_is(image: str) -> None:
    (about,) = json.loads(run("docker", "image", "inspect", image).stdout)
    config = about["Config"]
    assert config["User"] == ("101:101" if "gateway" in image else "10001:10001")
    for label in ("title", "description", "licenses", "version"):
        assert config["Labels"][f"org.opencontainers.image.{label}"]
    assert config["Labels"]["org.opencontainers.image.version"] == version("servable")
    assert config["Healthcheck"]["Test"]


def test_it_holds_no_compiler_and_what_the_constraints_say(image: str) -> None:
    code = (
        "import importlib.metadata as m, json, shutil;"
        "print(json.dumps([[c for c in ('cc', 'gcc', 'g++', 'clang', 'make') if shutil.which(c)],"
        "{d.name.lower().replace('_', '-'): d.version for d in m.distributions()}]))"
    )
    done = run("docker", "run", "--rm", "--read-only", "--entrypoint", "python", image, "-c", code)
    compilers, installed = json.loads(done.stdout)
    assert compilers == []
    pinned = {
        name.lower().replace("_", "-"): number
        for name, _, number in (
            line.partition("==") for line in (ROOT / "constraints.txt").read_text().splitlines()
        )
    }
    pinned["tensorflow-cpu"] = pinned["tensorflow"]
    ours = {
        n: v for n, v in installed.items() if n not in {"servable", "pip", "setuptools", "wheel"}
    }
    assert {name: pinned.get(name) for name in ours} == ours
    assert "pytest" not in installed


def test_what_is_served_by_default_is_the_mounted_repository(serving_image: str) -> None:
    name = run(
        "docker", "run", "--detach", "--read-only", "--tmpfs", "/tmp", "--network", "none",
        "--cap-drop", "ALL",
        "--volume", f"{ROOT / 'models'}:/models:ro", serving_image,
    ).stdout.strip()  # fmt: skip
    try:
        eventually(
            lambda: run(
                "docker", "inspect", "--format", "{{.State.Health.Status}}", name
            ).stdout.strip() == "healthy",
            why=f"{NAME} in a container of its own",
        )  # fmt: skip
        assert run("docker", "stop", "--time", "20", name).returncode == 0
        state = run("docker", "inspect", "--format", "{{.State.ExitCode}}", name).stdout.strip()
        assert state == "0"  # it was told to end, and did
    finally:
        run("docker", "rm", "--force", name)
