"""The history of a model's versions: what, when and by whom; one JSON object per line.

The file is next to the versions and is append-only. models.config is the source of truth for
labels; the history is how they came there.
"""

from __future__ import annotations

import getpass
import json
import os
import socket
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from servable_serving.core.json_text import parse_json
from servable_serving.core.names import STABLE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

HISTORY = ".history.jsonl"

Event = dict[str, Any]


def who() -> str:
    """The current user, as user@machine."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in containers
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def event(what: str, **facts: Any) -> Event:
    """An event with the current time."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    return {"when": now, "who": who(), "what": what, **facts}


def moved(what: str, label: str, version: int, before: int | None, why: str | None) -> Event:
    """The event that a label moved to a version from the one before, or from none."""
    reason = {} if why is None else {"why": why}
    return event(what, label=label, version=version, before=before, **reason)


def add(folder: Path, happened: Event) -> None:
    """Append an event.

    Raises:
        OSError: It cannot be written.
    """
    path = folder / HISTORY
    with path.open("a+b") as file:
        line = json.dumps(happened, ensure_ascii=False).encode() + b"\n"
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                line = b"\n" + line  # the process that wrote the last line was killed
        file.write(line)
        file.flush()
        os.fsync(file.fileno())


def read(folder: Path) -> list[Event]:
    """The events, oldest first; an invalid line, as a killed process leaves it, is skipped."""
    try:
        lines = (folder / HISTORY).read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return []
    events = []
    for line in lines:
        try:
            found = parse_json(line)
        except ValueError:
            continue
        if isinstance(found, dict) and isinstance(found.get("what"), str):
            events.append(found)
    return events


def moves(events: Sequence[Event], label: str) -> list[Event]:
    """The events that moved a label."""
    return [e for e in events if e.get("label") == label and isinstance(e.get("version"), int)]


def last_other(events: Sequence[Event], now: int | None) -> int | None:
    """The version of `stable` before `now`; None if unknown."""
    for move in reversed(moves(events, STABLE)):
        for version in (move["version"], move.get("before")):
            if isinstance(version, int) and version != now:
                return version
    return None


def before(events: Sequence[Event], now: int | None) -> int | None:
    """The version that a rollback of `stable` goes to: promoted before `now`, and not rolled back.

    So a second rollback goes one version further, and not back to the bad one.
    """
    line: list[int] = []
    for move in moves(events, STABLE):
        version = move["version"]
        if move["what"] == "rollback":
            while line and line[-1] != version:
                line.pop()
        elif isinstance(move.get("before"), int) and line[-1:] != [move["before"]]:
            line.append(move["before"])
        if line[-1:] != [version]:
            line.append(version)
    if now in line:  # else models.config was edited manually, and the whole line is older
        while line.pop() != now:
            pass
    return line[-1] if line else None


def lost_label_at(events: Sequence[Event]) -> dict[int, datetime]:
    """When each version last lost a label."""
    lost: dict[int, datetime] = {}
    for happened in events:
        version = happened.get("before")
        if "label" in happened and isinstance(version, int):
            try:
                lost[version] = datetime.fromisoformat(happened["when"])
            except (KeyError, TypeError, ValueError):
                continue
    return lost
