"""The version of a release is the same wherever it is repeated."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
FILES = sorted(
    path.relative_to(ROOT)
    for pattern in (
        "*.yml",
        "serving/**/*.y*ml",
        "serving/**/Dockerfile",
        "trainer/Dockerfile",
        "docs/*.md",
    )
    for path in ROOT.glob(pattern)
)
_REPEATED = re.compile(
    r"servable/(?:serving|trainer|gateway):(\d[\w.]*)|image\.version=\"([^\"]+)\""
)


def _versions(file: Path) -> list[str]:
    return ["".join(found) for found in _REPEATED.findall((ROOT / file).read_text())]


@pytest.mark.parametrize("file", [file for file in FILES if _versions(file)], ids=str)
def test_a_file_has_the_version_of_the_project(file: Path) -> None:
    assert set(_versions(file)) == {VERSION}


def test_the_images_have_a_version() -> None:
    for file in ("serving/Dockerfile", "trainer/Dockerfile", "docker-compose.yml"):
        assert _versions(Path(file)), file


def test_the_images_share_the_layers_of_their_libraries() -> None:
    serving, trainer, gateway = (
        (ROOT / folder / "Dockerfile").read_text().partition("\nARG ")[2].partition("\nLABEL ")[0]
        for folder in ("serving", "trainer", "serving/gateway")
    )
    assert "--extra serving" in serving
    assert serving == trainer
    wheel = serving[
        serving.index("FROM ${PYTHON} AS uv") : serving.index("FROM ${PYTHON} AS libraries")
    ]
    assert wheel in gateway
