"""docs/architecture.md names code that exists, and draws the layers that are enforced."""

from __future__ import annotations

import ast
import configparser
import re
from functools import cache
from pathlib import Path

import pytest

from servable_client.cli.app import build

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "architecture.md").read_text()
FOLDERS = {
    "servable_client": ROOT / "client",
    "servable_serving": ROOT / "serving",
    "servable_trainer": ROOT / "trainer",
}
NAMES = sorted(set(re.findall(r"`((?:servable_\w+|[a-z]+)/[\w./-]*(?::[\w.]+)?)`", PAGE)))
COMMANDS = PAGE.partition("\n## Commands\n")[2]


def _path(name: str) -> Path:
    return FOLDERS.get(name.partition("/")[0], ROOT) / name.partition(":")[0]


@cache
def _defined(path: Path) -> frozenset[str]:
    """What a module defines: functions, classes, constants, and the methods of its classes."""
    names: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                names.add(node.name)
            case ast.ClassDef():
                names.add(node.name)
                names |= {
                    f"{node.name}.{method.name}"
                    for method in node.body
                    if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef)
                }
            case ast.Assign():
                names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
            case ast.AnnAssign(target=ast.Name(id=name)):
                names.add(name)
            case _:
                pass
    return frozenset(names)


def _layers(container: str) -> list[str]:
    """The layers of a package that `.importlinter` has, from the top down."""
    config = configparser.ConfigParser()
    config.read(ROOT / ".importlinter")
    for section in config.values():
        if section.get("containers", "") == container:
            return section["layers"].split("\n")[1:]
    raise AssertionError(f"no contract of {container}")


def _drawn(container: str) -> list[str]:
    block = PAGE.partition(f"\n{container}\n")[2]
    lines = re.match(r"(?:  .+\n)+", block)
    assert lines is not None, f"{container} is not drawn"
    return [re.split(r"\s{2,}", line.strip())[0] for line in lines.group().splitlines()]


def _commands() -> list[str]:
    app = build()
    commands = [
        command.name or command.callback.__name__
        for command in app.registered_commands
        if command.callback is not None and not command.hidden
    ]
    return sorted([*commands, *(group.name or "" for group in app.registered_groups)])


def test_it_names_enough_to_find_the_way() -> None:
    assert len(NAMES) > 100


def test_every_name_exists() -> None:
    files = {name for name in NAMES if not _path(name).exists()}
    assert files == set(), "named in docs/architecture.md, but there is no such file"
    undefined = {
        name
        for name in NAMES
        if ":" in name and name.partition(":")[2] not in _defined(_path(name))
    }
    assert undefined == set(), "named in docs/architecture.md, but not defined there"


@pytest.mark.parametrize(
    "container", [*FOLDERS, "servable_serving.server"], ids=lambda container: container
)
def test_the_layers_are_those_of_import_linter(container: str) -> None:
    assert _drawn(container) == _layers(container)


def test_every_contract_of_layers_is_drawn() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / ".importlinter")
    containers = {section["containers"] for section in config.values() if "containers" in section}
    assert containers == {*FOLDERS, "servable_serving.server"}


@pytest.mark.parametrize("package", FOLDERS)
def test_the_diagram_has_each_layer(package: str) -> None:
    diagram = PAGE.partition("```mermaid\n")[2].partition("```")[0]
    part = diagram.partition(f"[{package}]")[2].partition("end\n")[0]
    labels = re.findall(r'\["?([^\]"]+)"?\]', part)
    assert labels == _layers(package)


def test_every_command_is_in_the_table() -> None:
    cells = " ".join(re.findall(r"^\| (.+?) \|", COMMANDS, re.MULTILINE))
    listed = set(re.findall(r"`(?:servable )?([\w-]+)[` ]", cells))
    assert set(_commands()) - listed == set()
