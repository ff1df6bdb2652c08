"""Files of a Debian package, without root."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from servable_trainer.data.dataset import DatasetError
from servable_trainer.data.debian_package import copy_from_package


class Debian:
    """Stands for apt-get and dpkg-deb.

    Attributes:
        commands: What was run.
        failing: The tool that fails, if any.
        archive: Whether a download leaves an archive.
    """

    def __init__(self) -> None:
        self.commands: list[tuple[str, ...]] = []
        self.failing: str | None = None
        self.archive = True

    def __call__(self, command: tuple[str, ...], *, cwd: str, **_: Any) -> Any:
        self.commands.append(command)
        if command[0] == self.failing:
            return subprocess.CompletedProcess(command, 100, "", "E: first\nE: no network\n")
        if "download" in command and self.archive:
            (Path(cwd) / "package.deb").touch()
        if command[0] == "dpkg-deb":
            made = Path(cwd) / "unpacked" / "usr" / "share" / "x"
            made.mkdir(parents=True)
            (made / "a.gz").write_text("content")
        return subprocess.CompletedProcess(command, 0, "", "")


@pytest.fixture
def debian(monkeypatch: pytest.MonkeyPatch) -> Debian:
    fake = Debian()
    monkeypatch.setattr(subprocess, "run", fake)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    return fake


def test_files_are_copied_from_the_unpacked_archive(debian: Debian, tmp_path: Path) -> None:
    copy_from_package("p", Path("/usr/share/x"), ["a.gz"], tmp_path)
    assert (tmp_path / "a.gz").read_text() == "content"
    assert [command[0] for command in debian.commands] == ["apt-get", "apt-get", "dpkg-deb"]


def test_package_lists_are_its_own(debian: Debian, tmp_path: Path) -> None:
    copy_from_package("p", Path("/usr/share/x"), ["a.gz"], tmp_path)
    update = debian.commands[0]
    assert any(part.startswith("Dir::State::Lists=") for part in update)


@pytest.mark.parametrize("tool", ["apt-get", "dpkg-deb"])
def test_a_tool_that_fails_is_named_with_its_last_line(
    debian: Debian, tmp_path: Path, tool: str
) -> None:
    debian.failing = tool
    with pytest.raises(DatasetError, match=f"{tool} .*no network"):
        copy_from_package("p", Path("/usr/share/x"), ["a.gz"], tmp_path)


def test_a_download_that_leaves_nothing(debian: Debian, tmp_path: Path) -> None:
    debian.archive = False
    with pytest.raises(DatasetError):
        copy_from_package("p", Path("/usr/share/x"), ["a.gz"], tmp_path)


def test_another_system_than_debian(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(DatasetError, match="Debian"):
        copy_from_package("p", Path("/usr/share/x"), ["a.gz"], tmp_path)
