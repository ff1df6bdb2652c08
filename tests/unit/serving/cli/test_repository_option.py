"""`--repository`, in every command that has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import typer
from tests.in_process import command
from tests.unit.serving.cli.test_release_options import _handlers  # noqa: F401

from servable_client.cli.app import build

if TYPE_CHECKING:
    from pathlib import Path

# The other arguments of each command that reads a repository.
READERS = {
    "versions": ["--offline"],
    "history": [],
    "verify": [],
    "prune": ["--keep", "1", "--offline"],
    "diff": ["1", "2"],
    "canary": ["2"],
    "shadow": ["2"],
    "promote": ["2", "--no-wait"],
    "rollback": ["--to", "2", "--no-wait"],
}


def _options() -> dict[str, Any]:
    commands: dict[str, Any] = typer.main.get_command(build()).commands  # type: ignore[attr-defined]
    return {
        name: parameter
        for name, found in commands.items()
        for parameter in found.params
        if "--repository" in parameter.opts
    }


def test_every_reader_is_tested() -> None:
    assert set(_options()) == {*READERS, "push", "train", "tune"}


@pytest.mark.parametrize("name", READERS)
def test_a_repository_that_does_not_exist_is_named(name: str, tmp_path: Path) -> None:
    missing = tmp_path / "nonexistent"
    done = command(name, *READERS[name], "--repository", missing)
    assert done.returncode == 1
    assert str(missing) in done.stderr
    assert "--repository" in done.stderr


@pytest.mark.parametrize("name", READERS)
def test_help_offers_a_url_where_it_is_taken(name: str) -> None:
    done = command(name, *READERS[name], "--repository", "memory://nothing")
    assert done.returncode == (0 if name in ("versions", "history") else 1)
    assert "s3://" in _options()[name].help


def test_a_canary_of_an_empty_repository_is_about_the_version(tmp_path: Path) -> None:
    done = command("canary", "2", "--repository", tmp_path)
    assert done.returncode == 1
    assert f"no version 2 in {tmp_path}" in done.stderr
