"""Options of the trainer's commands that are refused before any work."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from servable_trainer.cli import options
from servable_trainer.cli.export import _labels, _name
from servable_trainer.cli.options import find_dataset, parse_size
from servable_trainer.cli.register import register
from servable_trainer.cli.tune import _assignments

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
        ("train", "--data-from", "mine:load"),
        ("train", "--batch-size", "8"),
        ("train", "--model", "mine:build", "--input-range", "0..2"),
        ("train", "--model", "mine:build", "--recipe", "resnet"),
        ("train", "--model", "mine:build", "--start-from", "run"),
        ("tune", "--input-range", "0..1"),
        ("tune", "--model", "m:b", "--data-from", "m:f", "--input-range", "0..1"),
        ("train", "--recipe", "foo"),
        ("train", "--weights", "/nonexistent", "--recipe", "mobilenet"),
        ("train", "--weights", "imagenet"),
        ("train", "--weights", "imagenet", "--recipe", "resnet"),
        ("train", "--model", "mine"),
        ("train", "--model", "mine:build", "--data-from", ":load"),
        ("tune", "--model", "mine:"),
        ("export", "--tuner", "project", "--model", "mine"),
        ("compare", "--method", "foo"),
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
    ("option", "value"),
    [
        ("--fix", "kind=plane"),
        ("--fix", "nosuch=1"),
        ("--objective", "nosuch"),
        ("--objective", "val_accuracy:up"),
    ],
)
def test_tune_refuses_what_only_the_network_knows(
    app: typer.Typer, option: str, value: str, tmp_path: Path
) -> None:
    for name, count in (("train", 20), ("test", 5)):
        for label in ("left", "right"):
            folder = tmp_path / "images" / name / label
            folder.mkdir(parents=True)
            for index in range(count):
                Image.new("L", (8, 8), index).save(folder / f"{index}.png")
    status, text = invoke(
        app, "tune", "--dataset", tmp_path / "images", "--output", tmp_path / "search",
        option, value,
    )  # fmt: skip
    assert status == 2, text
    assert option in text


def test_a_printed_command_can_be_copied() -> None:
    line = options.command_line(
        "train", "my run", dataset=Path("my images"), skip_corrupt=True, size=None, data=False
    )
    assert line == "servable train 'my run' --dataset 'my images' --skip-corrupt"


def test_the_choices_are_the_names_in_the_code() -> None:
    from servable_trainer.comparison.classic import METHODS
    from servable_trainer.networks.recipes import RECIPES

    assert list(get_args(options.RecipeName)) == list(RECIPES)
    assert list(options.MethodName) == [method.name for method in METHODS]


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
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["0", "7", "1025", "12x", "x12", "2000x20", "28 x 28", "-28", ""])
def test_invalid_sizes(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        parse_size(text)


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


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--input-range", "0..2"), "-1..1"),
        (("--size", "7"), "7"),
        (("--labels", "nosuch.txt"), "nosuch.txt"),
        (("--examples", "nosuch.npz"), "nosuch.npz"),
        (("--dataset", "."), "--examples"),
        (("--data", "."), "--examples"),
        (("--skip-corrupt",), "--examples"),
    ],
)
def test_export_refuses(
    app: typer.Typer, tmp_path: Path, arguments: tuple[str, ...], named: str
) -> None:
    model = tmp_path / "model.keras"
    model.touch()
    status, text = invoke(app, "export", model, *arguments)
    assert status == 2
    assert named in text


@pytest.mark.parametrize(
    "arguments",
    [
        ("--labels", "a,b"), ("--input-range", "0..1"), ("--logits",), ("--multi-label",),
        ("--size", "28"), ("--no-invert",), ("--keep-signatures",), ("--custom-objects", "m"),
        ("--examples", "x.npz"),
    ],
)  # fmt: skip
def test_a_run_knows_its_own(app: typer.Typer, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    record = {
        "dataset": "d", "checksums": {}, "labels": ["a", "b"], "size": [8, 8], "recipe": "baseline",
        "hyperparameters": {}, "seed": 0, "epochs": [], "fitted": 1, "validated": 0, "seconds": 1.0,
    }  # fmt: skip
    (tmp_path / "run.json").write_text(json.dumps(record))
    status, text = invoke(app, "export", tmp_path, *arguments)
    assert status == 2
    assert arguments[0].replace("--no-", "--") in text


def test_labels_are_a_list_or_a_file(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("T-shirt, striped\n boot \n\nbag\n")
    assert _labels(str(tmp_path / "names.txt")) == ["T-shirt, striped", "boot", "bag"]
    assert _labels("T-shirt, boot,bag") == ["T-shirt", "boot", "bag"]
    assert len(_labels(",".join("a" * 5000))) == 5000
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(typer.BadParameter):
        _labels(str(tmp_path / "binary"))


def test_a_model_is_named_after_its_file(tmp_path: Path) -> None:
    for path, name in (
        ("garments.keras", "garments"), ("my model.h5", "my_model"), ("v1.2.keras", "v1.2"),
        ("garments/3", "garments"), ("größe.keras", "gr__e"), (".keras", "keras"),
    ):  # fmt: skip
        made = tmp_path / path
        made.parent.mkdir(exist_ok=True)
        if made.suffix:
            made.touch()
        else:
            made.mkdir(exist_ok=True)
        assert _name(made) == name
