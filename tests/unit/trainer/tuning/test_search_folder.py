"""The directory of a search: identity, duration and lock."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from servable_trainer.tuning import search_folder
from servable_trainer.tuning.search_folder import SearchFolder, differences
from servable_trainer.tuning.trials import TuneError

if TYPE_CHECKING:
    from pathlib import Path

IDENTITY: dict[str, Any] = {
    "settings": {"epochs": 1, "fixed": {}},
    "data": {"checksums": {"a": "1"}},
    "code": {"servable": "1", "network": "x", "space": "y"},
}


class Clock:
    """Time that only moves when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    fake = Clock()
    monkeypatch.setattr(search_folder, "time", fake)
    return fake


def begun(path: Path) -> SearchFolder:
    folder = SearchFolder(path)
    folder.begin(IDENTITY, overwrite=False)
    return folder


def test_a_search_records_its_identity(tmp_path: Path) -> None:
    begun(tmp_path)
    record = json.loads((tmp_path / "search.json").read_text())
    assert record == {"format": 1, "search": IDENTITY, "seconds": 0.0}


def test_the_same_search_resumes(tmp_path: Path) -> None:
    begun(tmp_path)
    assert begun(tmp_path).identity == IDENTITY


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("settings", "epochs", 2),
        ("settings", "fixed", {"units": 8}),
        ("data", "checksums", {"a": "2"}),
        ("code", "network", "z"),
        ("code", "servable", "2"),
    ],
)
def test_another_search_is_refused(tmp_path: Path, part: str, key: str, value: object) -> None:
    begun(tmp_path)
    other = {**IDENTITY, part: {**IDENTITY[part], key: value}}
    with pytest.raises(TuneError) as caught:
        SearchFolder(tmp_path).begin(other, overwrite=False)
    assert "--overwrite" in str(caught.value.hint)
    assert json.loads((tmp_path / "search.json").read_text())["search"] == IDENTITY


@pytest.mark.parametrize("record", ["{", "[]", "{}", '{"search": {}, "seconds": "x"}'])
def test_a_damaged_record_is_refused(tmp_path: Path, record: str) -> None:
    (tmp_path / "search.json").write_text(record)
    with pytest.raises(TuneError):
        SearchFolder(tmp_path).begin(IDENTITY, overwrite=False)


def test_trials_without_a_record_are_refused(tmp_path: Path) -> None:
    (tmp_path / "search").mkdir()
    with pytest.raises(TuneError):
        SearchFolder(tmp_path).begin(IDENTITY, overwrite=False)


def test_overwrite_discards_the_search_and_nothing_else(tmp_path: Path) -> None:
    begun(tmp_path).trials.mkdir()
    for name in ("trials.json", "trials.html", "notes.txt"):
        (tmp_path / name).touch()
    other = {**IDENTITY, "code": {}}
    SearchFolder(tmp_path).begin(other, overwrite=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["notes.txt", "search.json"]


def test_the_lock_keeps_others_out(tmp_path: Path) -> None:
    with (
        SearchFolder(tmp_path).held(),
        pytest.raises(TuneError, match="another process"),
        SearchFolder(tmp_path).held(),
    ):
        pass


def test_the_lock_is_released_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyError), SearchFolder(tmp_path).held():
        raise KeyError
    with SearchFolder(tmp_path).held():
        pass


def test_an_error_in_the_block_is_not_taken_for_one_of_the_directory(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="of the block"), SearchFolder(tmp_path).held():
        raise OSError("of the block")


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(TuneError, match="cannot write"),
        SearchFolder(tmp_path / "file" / "x").held(),
    ):
        pass


def test_the_duration_adds_up_over_processes(tmp_path: Path, clock: Clock) -> None:
    for _ in range(2):
        folder = begun(tmp_path)
        folder.start_clock()
        clock.now += 10
        folder.stop_clock()
    assert begun(tmp_path).seconds == 20


def test_no_time_passes_before_the_clock_starts(tmp_path: Path, clock: Clock) -> None:
    folder = begun(tmp_path)
    clock.now += 10
    assert folder.seconds == 0


def test_a_second_start_changes_nothing(tmp_path: Path, clock: Clock) -> None:
    folder = begun(tmp_path)
    folder.start_clock()
    clock.now += 3
    folder.start_clock()
    assert folder.seconds == 3


def test_the_duration_is_saved_every_few_seconds(tmp_path: Path, clock: Clock) -> None:
    def saved() -> float:
        return float(json.loads((tmp_path / "search.json").read_text())["seconds"])

    folder = begun(tmp_path)
    folder.start_clock()
    clock.now += 1
    folder.tick()
    assert saved() == 0
    clock.now += 5
    folder.tick()
    assert saved() == 6


@pytest.mark.parametrize(
    ("there", "here", "expected"),
    [
        ({"s": {"epochs": 1}}, {"s": {"epochs": 2}}, ["epochs 1 there, 2 here"]),
        ({"s": {"epochs": 1}}, {}, ["epochs 1 there, not set here"]),
        ({"s": {"fixed": {}}}, {"s": {"fixed": {"a": 1}}}, ["fixed none there, a=1 here"]),
        ({"s": {"a": 1, "b": 2}}, {"s": {"b": 2, "a": 1}}, []),
    ],
)
def test_differences(there: dict[str, Any], here: dict[str, Any], expected: list[str]) -> None:
    assert differences(there, here) == expected


def test_digests_are_not_quoted() -> None:
    (found,) = differences({"c": {"space": "0123abcd"}}, {"c": {"space": "feedbeef"}})
    assert "0123abcd" not in found


def test_places_are_named() -> None:
    found = differences({"s": {"a": 1}}, {"s": {"a": 2}}, places=("at one", "at two"))
    assert found == ["a 1 at one, 2 at two"]
