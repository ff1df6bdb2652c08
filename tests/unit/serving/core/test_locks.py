"""File locks. Two open files are two holders, in one process too."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from servable_serving.core.errors import FolderError
from servable_serving.core.locks import locked, locked_if_free, taken

if TYPE_CHECKING:
    from pathlib import Path


def test_a_free_lock_is_taken_without_a_wait(tmp_path: Path) -> None:
    waits: list[None] = []
    with locked(tmp_path / "lock", waiting=lambda: waits.append(None)):
        pass
    assert waits == []


def test_a_missing_lock_file_is_created(tmp_path: Path) -> None:
    with locked(tmp_path / "lock"):
        assert (tmp_path / "lock").is_file()


def test_the_content_of_a_lock_file_stays(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("7\n")
    with locked(tmp_path / "lock"):
        pass
    assert (tmp_path / "lock").read_text() == "7\n"


def test_a_second_holder_waits_for_the_first(tmp_path: Path) -> None:
    waits = threading.Event()
    order: list[str] = []

    def second() -> None:
        with locked(tmp_path / "lock", waiting=waits.set):
            order.append("second")

    with locked(tmp_path / "lock"):
        thread = threading.Thread(target=second)
        thread.start()
        assert waits.wait(60)
        order.append("first")
    thread.join(60)
    assert order == ["first", "second"]


def test_a_held_lock_is_not_free(tmp_path: Path) -> None:
    with locked(tmp_path / "lock"), locked_if_free(tmp_path / "lock") as held:
        assert not held


def test_a_free_lock_is_held(tmp_path: Path) -> None:
    with locked_if_free(tmp_path / "lock") as first, locked_if_free(tmp_path / "lock") as second:
        assert (first, second) == (True, False)


@pytest.mark.parametrize("failure", [None, ValueError("inside")])
def test_a_lock_is_released_at_the_end(tmp_path: Path, failure: Exception | None) -> None:
    try:
        with locked(tmp_path / "lock"):
            if failure is not None:
                raise failure
    except ValueError:
        pass
    with locked_if_free(tmp_path / "lock") as held:
        assert held


def test_locks_of_two_files_are_independent(tmp_path: Path) -> None:
    with locked(tmp_path / "one"), locked_if_free(tmp_path / "other") as held:
        assert held


def test_a_lock_that_was_not_obtained_releases_nothing(tmp_path: Path) -> None:
    with locked(tmp_path / "lock"):
        with locked_if_free(tmp_path / "lock"):
            pass
        with locked_if_free(tmp_path / "lock") as held:
            assert not held


def test_an_open_file_is_locked_until_it_is_closed(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("a") as first:
        assert taken(first)
        with (tmp_path / "lock").open("a") as second:
            assert not taken(second)
    with (tmp_path / "lock").open("a") as third:
        assert taken(third)


@pytest.mark.parametrize("lock", [locked, locked_if_free])
def test_a_folder_that_is_missing_is_an_error(tmp_path: Path, lock: type) -> None:
    with pytest.raises(FolderError, match="missing"), lock(tmp_path / "missing" / "lock"):
        pytest.fail("it was entered")
