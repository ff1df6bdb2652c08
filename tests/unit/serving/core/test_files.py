"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from servable_serving.core.errors import FolderError
from servable_serving.core.files import (
    atomic_write,
    check_absent,
    folder_size,
    new_folder,
    remove_leftovers,
    sync_tree,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Interrupted(BaseException):
    """What a signal handler may raise at any moment."""


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o027)
    yield
    os.umask(before)


@pytest.mark.parametrize(
    ("content", "expected"), [("grün\n", "grün\n".encode()), (b"\0\xff", b"\0\xff"), ("", b"")]
)
def test_a_file_is_written(tmp_path: Path, content: str | bytes, expected: bytes) -> None:
    atomic_write(tmp_path / "file", content)
    assert (tmp_path / "file").read_bytes() == expected


def test_an_old_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old and longer")
    atomic_write(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "new"


def test_nothing_else_is_left_in_the_folder(tmp_path: Path) -> None:
    atomic_write(tmp_path / "file", "new", durable=True)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_an_open_reader_keeps_the_old_content(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    with (tmp_path / "file").open() as reader:
        atomic_write(tmp_path / "file", "new")
        assert reader.read() == "old"


@pytest.mark.usefixtures("umask")
def test_the_umask_decides_who_may_read(tmp_path: Path) -> None:
    atomic_write(tmp_path / "file", "new")
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


@pytest.mark.parametrize("failure", [OSError("disk full"), Interrupted()])
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failure_leaves_the_old_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, failure: BaseException
) -> None:
    (tmp_path / "file").write_text("old")

    def fail(*_: object) -> None:
        raise failure

    if step == "fsync":
        monkeypatch.setattr("os.fsync", fail)
    else:
        monkeypatch.setattr("pathlib.Path.replace", fail)
    with pytest.raises(type(failure)):
        atomic_write(tmp_path / "file", "new")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"file": "old"}


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        atomic_write(tmp_path / "missing" / "file", "new")
    assert not list(tmp_path.iterdir())


def test_the_content_is_on_the_disk_before_the_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("old")
    seen: list[str] = []
    fsync = os.fsync

    def watched(handle: int) -> None:
        seen.append((tmp_path / "file").read_text())
        fsync(handle)

    monkeypatch.setattr("os.fsync", watched)
    atomic_write(tmp_path / "file", "new")
    assert seen == ["old"]


def test_a_durable_write_flushes_the_folder_after_the_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[bool, bool]] = []
    fsync = os.fsync

    def watched(handle: int) -> None:
        is_folder = stat.S_ISDIR(os.fstat(handle).st_mode)
        seen.append((is_folder, (tmp_path / "file").exists()))
        fsync(handle)

    monkeypatch.setattr("os.fsync", watched)
    atomic_write(tmp_path / "file", "new", durable=True)
    assert seen == [(False, False), (True, True)]


def test_threads_that_write_one_file_do_not_mix(tmp_path: Path) -> None:
    contents = [str(number) * 5000 for number in range(8)]

    def write(content: str) -> str:
        atomic_write(tmp_path / "file", content)
        return (tmp_path / "file").read_text()

    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(write, contents * 5))
    assert set(read) <= set(contents)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_leftovers_of_a_killed_writer_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "models.config"
    path.write_text("old")
    (tmp_path / ".models.config.lock").touch()
    with monkeypatch.context() as patched:
        # A killed process cleans nothing up.
        patched.setattr("pathlib.Path.replace", lambda *_: None)
        atomic_write(path, "new")
    assert len(list(tmp_path.iterdir())) == 3
    remove_leftovers(path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".models.config.lock", "models.config"]


def test_leftovers_of_another_file_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pathlib.Path.replace", lambda *_: None)
    atomic_write(tmp_path / "a[b]", "left")
    remove_leftovers(tmp_path / "a")
    assert len(list(tmp_path.iterdir())) == 1
    remove_leftovers(tmp_path / "a[b]")
    assert not list(tmp_path.iterdir())


def test_a_new_folder_appears_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "parent" / "folder"
    with new_folder(target) as incoming:
        (incoming / "file").touch()
        assert not target.exists()
        assert incoming.parent == target.parent
    assert (target / "file").is_file()
    assert [path.name for path in target.parent.iterdir()] == ["folder"]


def test_a_new_folder_can_be_read_by_others(tmp_path: Path) -> None:
    with new_folder(tmp_path / "folder"):
        pass
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o755


def test_a_temporary_folder_has_the_prefix_that_is_given(tmp_path: Path) -> None:
    with new_folder(tmp_path / "7", incoming_prefix=".incoming-") as incoming:
        assert incoming.name.startswith(".incoming-")


@pytest.mark.parametrize("failure", [ValueError("bad"), Interrupted()])
def test_a_new_folder_that_fails_vanishes(tmp_path: Path, failure: BaseException) -> None:
    def fill() -> None:
        with new_folder(tmp_path / "folder") as incoming:
            (incoming / "file").touch()
            raise failure

    with pytest.raises(type(failure)):
        fill()
    assert not list(tmp_path.iterdir())


def test_a_write_that_fails_names_the_folder(tmp_path: Path) -> None:
    with (
        pytest.raises(FolderError, match=f"{tmp_path}/folder: No space"),
        new_folder(tmp_path / "folder"),
    ):
        raise OSError(28, "No space left on device")


def test_an_existing_folder_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(FolderError) as caught, new_folder(tmp_path / "folder"):
        pytest.fail("it was entered")
    assert caught.value.hint is not None


def test_a_folder_made_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    target = tmp_path / "folder"

    def fill() -> None:
        with new_folder(target):
            target.mkdir()
            (target / "theirs").touch()

    with pytest.raises(FolderError):
        fill()
    assert (target / "theirs").is_file()


def test_a_parent_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FolderError, match="cannot write to"), new_folder(tmp_path / "file" / "x"):
        pytest.fail("it was entered")


def test_an_absent_folder_passes(tmp_path: Path) -> None:
    check_absent(tmp_path / "absent")


def test_a_folder_whose_name_is_too_long_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FolderError, match="too long"):
        check_absent(tmp_path / ("x" * 300))


def test_the_size_of_a_folder_counts_files_at_any_depth(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"123")
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "b").write_bytes(b"45")
    assert folder_size(tmp_path) == 5


def test_a_tree_is_flushed_with_its_files_and_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "file").touch()
    flushed: set[int] = set()
    monkeypatch.setattr("os.fsync", lambda handle: flushed.add(os.fstat(handle).st_ino))
    sync_tree(tmp_path)
    paths = (tmp_path, tmp_path / "deep", tmp_path / "deep" / "file")
    assert flushed == {path.stat().st_ino for path in paths}
