"""docker-compose.yml and .env.example tell of the same settings."""

from __future__ import annotations

import json
import os
import re

import pytest
import yaml
from tests.conftest import ROOT
from tests.system.stack.stacks import run

COMPOSE = (ROOT / "docker-compose.yml").read_text()
EXAMPLE = (ROOT / ".env.example").read_text()


def test_every_setting_is_explained_and_every_explained_one_exists() -> None:
    used = set(re.findall(r"\$\{(\w+)", COMPOSE))
    explained = set(re.findall(r"^#?(\w+)=", EXAMPLE, re.MULTILINE)) - {"COMPOSE_PROFILES"}
    assert explained == used


def test_what_is_explained_is_the_default() -> None:
    explained = dict(re.findall(r"^#(\w+)=(.*)$", EXAMPLE, re.MULTILINE))
    for name, default in re.findall(r"\$\{(\w+):-([^}]*)\}", COMPOSE):
        assert explained[name] == default, name


def test_each_explanation_precedes_its_setting() -> None:
    lines = EXAMPLE.splitlines()
    for i, line in enumerate(lines):
        if re.match(r"#\w+=", line):
            assert lines[i - 1].startswith("#"), line


def test_profiles_are_those_that_are_told_of() -> None:
    services = yaml.safe_load(COMPOSE)["services"].values()
    profiles = {profile for service in services for profile in service.get("profiles", ())}
    assert profiles == {"monitoring", "train", "tune"}
    for profile in profiles:
        assert re.search(rf"\b{profile}\b \(", EXAMPLE), profile


def test_every_image_of_others_has_an_exact_version() -> None:
    servers = yaml.safe_load((ROOT / "serving" / "servers.yml").read_text())
    services = yaml.safe_load(COMPOSE)["services"] | servers["services"]
    for name, service in services.items():
        if image := service.get("image"):
            assert re.search(r":v?\d+\.\d+", image), name


@pytest.mark.docker
@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize(
    ("serving", "image"),
    [
        ("tensorflow", "tensorflow/serving:2.20.0"),
        ("gpu", "tensorflow/serving:2.20.0-gpu"),
        ("embedded", "servable/serving:0.1.0"),
    ],
)
def test_one_setting_says_which_server_it_is(serving: str, image: str) -> None:
    def service(environment: dict[str, str]) -> dict[str, object]:
        done = run(
            "docker", "compose", "--env-file", "/dev/null", "--file", ROOT / "docker-compose.yml",
            "config", "--format", "json", env={**os.environ, **environment},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found: dict[str, object] = json.loads(done.stdout)["services"]["serving"]
        return found

    ordinary, chosen = service({}), service({"SERVABLE_SERVING": serving})
    assert ordinary["image"] == "tensorflow/serving:2.20.0"
    assert chosen["image"] == image
    assert ("deploy" in chosen) == (serving == "gpu")
    # It is built where it is ours, and never in the name of another's.
    assert ("build" in chosen) == (serving == "embedded")
    rest = {"image", "deploy", "build"}
    assert {k: v for k, v in chosen.items() if k not in rest} == {
        k: v for k, v in ordinary.items() if k not in rest
    }
