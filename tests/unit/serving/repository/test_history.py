"""The history file, and what it says of labels."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING, Any

import pytest

from servable_serving.repository import history

if TYPE_CHECKING:
    from pathlib import Path


def move(what: str, version: int, before: int | None, label: str = "stable") -> dict[str, Any]:
    return {"what": what, "label": label, "version": version, "before": before}


def test_events_are_read_in_the_order_they_were_added(tmp_path: Path) -> None:
    history.add(tmp_path, history.event("publish", version=1))
    history.add(tmp_path, history.event("publish", version=2))
    assert [e["version"] for e in history.read(tmp_path)] == [1, 2]


def test_an_event_has_a_time_and_a_user() -> None:
    event = history.event("prune", version=3)
    assert event["what"] == "prune"
    assert event["when"].endswith("+00:00")
    assert "@" in event["who"]


def test_a_user_without_a_name_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError

    monkeypatch.setattr(getpass, "getuser", nobody)
    assert history.who().partition("@")[0].isdigit()


def test_no_file_is_no_events(tmp_path: Path) -> None:
    assert history.read(tmp_path) == []


def test_a_truncated_line_does_not_spoil_the_next(tmp_path: Path) -> None:
    (tmp_path / history.HISTORY).write_bytes(b'{"what": "publ')
    history.add(tmp_path, history.event("publish", version=2))
    assert [e["version"] for e in history.read(tmp_path)] == [2]


@pytest.mark.parametrize("line", ["", "[]", "3", "{}", '{"what": 3}', "\xff"])
def test_an_invalid_line_is_skipped(tmp_path: Path, line: str) -> None:
    (tmp_path / history.HISTORY).write_text(f'{line}\n{{"what": "x"}}\n', encoding="latin-1")
    assert history.read(tmp_path) == [{"what": "x"}]


def test_moves_are_those_of_a_label() -> None:
    events = [move("push", 1, None), move("push", 2, None, "canary"), {"what": "prune"}]
    assert history.moves(events, "canary") == [events[1]]


@pytest.mark.parametrize(
    ("events", "now", "expected"),
    [
        ([], None, None),
        ([move("push", 1, None)], 1, None),
        ([move("push", 1, None), move("promote", 2, 1)], 2, 1),
        ([move("promote", 2, 1)], 2, 1),
        ([move("promote", 2, 1), move("rollback", 1, 2)], 1, 2),
        ([move("push", 1, None), move("promote", 2, 1)], 7, 2),
    ],
)
def test_the_previous_stable(events: list[Any], now: int | None, expected: int | None) -> None:
    assert history.last_other(events, now) == expected


@pytest.mark.parametrize(
    ("events", "now", "expected"),
    [
        ([], None, None),
        ([move("push", 1, None)], 1, None),
        ([move("push", 1, None), move("promote", 2, 1)], 2, 1),
        ([move("push", 1, None), move("promote", 2, 1), move("promote", 3, 2)], 3, 2),
        # A second rollback goes one further, not back to the bad version.
        ([move("push", 1, None), move("promote", 2, 1), move("promote", 3, 2),
          move("rollback", 2, 3)], 2, 1),
        # Before the history began.
        ([move("promote", 5, 4)], 5, 4),
        # models.config was edited by hand.
        ([move("push", 1, None), move("promote", 2, 1)], 9, 2),
    ],
)  # fmt: skip
def test_where_a_rollback_goes(events: list[Any], now: int | None, expected: int | None) -> None:
    assert history.before(events, now) == expected


def test_when_a_version_lost_its_label() -> None:
    events = [
        {**move("promote", 2, 1), "when": "2024-01-01T00:00:00+00:00"},
        {**move("promote", 3, 2), "when": "2024-01-02T00:00:00+00:00"},
    ]
    lost = history.lost_label_at(events)
    assert {version: when.day for version, when in lost.items()} == {1: 1, 2: 2}


@pytest.mark.parametrize("when", [None, 3, "soon"])
def test_an_invalid_time_is_ignored(when: object) -> None:
    assert history.lost_label_at([{**move("promote", 2, 1), "when": when}]) == {}
