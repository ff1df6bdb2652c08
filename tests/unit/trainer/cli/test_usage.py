"""Options of the trainer's commands that are refused before any work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import typer
from typer.testing import CliRunner

from servable_trainer.cli import options
from servable_trainer.cli.options import _size, find_dataset
from servable_trainer.cli.register import register
from servable_trainer.cli.tune import _assignments

if TYPE_CHECKING:
    from pathlib import Path

COMMANDS = ("tune", "train", "evaluate", "compare", "export", "demo", "data fetch")


@pytest.fixture(scope="module")
def app() -> typer.Typer:
    made = typer.Typer()
    register(made)
    return made


def invoke(app: typer.Typer, *arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, list(map(str, arguments)), env={"COLUMNS": "200"})
    return done.exit_code, " ".join(done.output.split())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(app: typer.Typer, name: str) -> None:
    status, text = invoke(app, *name.split(), "--help")
    assert status == 0
    assert "--data" in text


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--fix", "width"), "--fix"),
        (("--tuner", "psychic"), "psychic"),
        (("--trials", "0"), "--trials"),
        (("--minutes", "0"), "--minutes"),
        (("--subset", "99"), "--subset"),
        (("--seed", "-1"), "--seed"),
        (("--role", "worker"), "chief's address"),
        (("--role", "chief", "--chief", "nowhere"), "nowhere"),
        (("--chief", "127.0.0.1:1"), "role"),
        (("--role", "worker", "--chief", "127.0.0.1:1", "--worker", "a b"), "a b"),
    ],
)
def test_tune_refuses(app: typer.Typer, arguments: tuple[str, ...], named: str) -> None:
    status, text = invoke(app, "tune", *arguments)
    assert status == 2
    assert named in text


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", "--epochs", "0"),
        ("train", "--validation-share", "0.95"),
        ("train", "--precision", "float8"),
        ("train", "--patience", "1", "--all-data"),
        ("train", "--hyperparameters", "x", "--start-from", "y"),
        ("compare", "--subset", "99"),
        ("compare", "--best", "speed"),
        ("compare", "--max-ms", "-1"),
        ("demo", "--port", "0"),
        ("demo", "--rest-api-port", "65536"),
        ("demo", "--trials", "0"),
        ("evaluate",),
        ("export",),
        ("nosuch",),
    ],
)
def test_usage_errors(app: typer.Typer, arguments: tuple[str, ...]) -> None:
    assert invoke(app, *arguments)[0] == 2


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        (["width=8"], {"width": 8}),
        (["flip=true", "rate=1e-3"], {"flip": True, "rate": 0.001}),
        (["kind=plain"], {"kind": "plain"}),
        (["kind=a=b"], {"kind": "a=b"}),
        ([], {}),
    ],
)
def test_fixed_hyperparameters(pairs: list[str], expected: dict[str, object]) -> None:
    assert _assignments(pairs) == expected


@pytest.mark.parametrize("pair", ["width", "=8", "width=", "="])
def test_invalid_assignments(pair: str) -> None:
    with pytest.raises(typer.BadParameter):
        _assignments([pair])


@pytest.mark.parametrize(
    ("text", "size"), [("48x64", (48, 64)), ("28", (28, 28)), ("8X1024", (8, 1024))]
)
def test_sizes(text: str, size: tuple[int, int]) -> None:
    assert _size(text) == size


@pytest.mark.parametrize("text", ["0", "7", "1025", "12x", "x12", "2000x20", "28 x 28", "-28", ""])
def test_invalid_sizes(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        _size(text)


@pytest.mark.parametrize(
    ("given", "option"),
    [
        ({"size": "28"}, "--size"),
        ({"channels": 1}, "--channels"),
        ({"skip_corrupt": True}, "--skip-corrupt"),
    ],
)
def test_options_that_require_a_directory_of_images(
    given: dict[str, Any], option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(options, "quiet_tensorflow", lambda: pytest.fail("too late"))
    with pytest.raises(typer.BadParameter) as caught:
        find_dataset(None, None, **given)
    assert caught.value.param_hint == option


@pytest.mark.parametrize(
    ("name", "given", "option"),
    [
        ("nowhere", {}, "--dataset"),
        ("file", {}, "--dataset"),
        (".", {"channels": 2}, "--channels"),
        (".", {"size": "0"}, "--size"),
    ],
)
def test_invalid_directories_and_shapes_of_images(
    name: str,
    given: dict[str, Any],
    option: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(options, "quiet_tensorflow", lambda: pytest.fail("too late"))
    (tmp_path / "file").touch()
    with pytest.raises(typer.BadParameter) as caught:
        find_dataset(None, tmp_path / name, **given)
    assert caught.value.param_hint == option


def test_two_datasets_conflict(tmp_path: Path) -> None:
    with pytest.raises(typer.BadParameter) as caught:
        find_dataset(tmp_path, tmp_path)
    assert caught.value.param_hint == "--data"
