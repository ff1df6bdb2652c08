"""A push into a repository behind a URL."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from servable_client import InvalidInput
from servable_serving.release import push as push_module
from servable_serving.release.push import Plan, push
from servable_serving.release.remote_target import RemoteTarget
from servable_serving.release.server_group import ReleaseError
from servable_serving.release.steps import Steps
from servable_serving.repository.remote import Remote
from servable_serving.repository.store import StoreError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def compared(monkeypatch: pytest.MonkeyPatch) -> list[list[str] | None]:
    """The files of the version that each push was compared with."""
    found: list[list[str] | None] = []

    def inspect(_: object, *, served: Path | None, **__: object) -> list[object]:
        found.append(None if served is None else sorted(p.name for p in served.iterdir()))
        return []

    monkeypatch.setattr(push_module, "inspect", inspect)
    return found


@pytest.fixture
def target() -> RemoteTarget:
    return RemoteTarget(Remote(f"memory://{uuid.uuid4().hex}"), "garments")


def test_the_first_version_becomes_stable(target: RemoteTarget, candidate: Path) -> None:
    steps = Steps(None)
    assert push(candidate, target, steps, Plan()) == 1
    assert target.labels() == {"stable": 1}
    assert [step.name for step in steps.taken] == ["upload", "label"]


def test_the_next_version_becomes_canary(target: RemoteTarget, candidate: Path) -> None:
    push(candidate, target, Steps(None), Plan())
    steps = Steps(None)
    assert push(candidate, target, steps, Plan()) == 2
    assert target.labels() == {"canary": 2, "stable": 1}
    assert [step.name for step in steps.taken] == ["fetch", "upload", "label"]


def test_a_promoted_version_becomes_stable(target: RemoteTarget, candidate: Path) -> None:
    push(candidate, target, Steps(None), Plan())
    push(candidate, target, Steps(None), Plan(promote=True))
    assert target.labels() == {"stable": 2}


def test_the_stable_version_is_fetched_to_compare_with(
    target: RemoteTarget, candidate: Path, compared: list[list[str] | None]
) -> None:
    push(candidate, target, Steps(None), Plan())
    push(candidate, target, Steps(None), Plan())
    assert compared == [None, ["assets.extra", "saved_model.pb", "variables"]]


def test_a_dry_run_uploads_nothing(target: RemoteTarget, candidate: Path) -> None:
    assert push(candidate, target, Steps(None), Plan(dry_run=True)) is None
    assert target.remote.numbers("garments") == []


def test_a_version_cannot_be_chosen(target: RemoteTarget, candidate: Path) -> None:
    with pytest.raises(InvalidInput):
        push(candidate, target, Steps(None), Plan(version=3))
    assert target.remote.numbers("garments") == []


def test_an_upload_that_fails_moves_no_label(
    target: RemoteTarget, candidate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(candidate, target, Steps(None), Plan())

    def full(*_: object) -> None:
        raise StoreError("no space left")

    monkeypatch.setattr(target.remote.store, "put", full)
    with pytest.raises(StoreError):
        push(candidate, target, Steps(None), Plan(promote=True))
    assert target.labels() == {"stable": 1}


def test_stable_moves_and_moves_back(target: RemoteTarget, candidate: Path) -> None:
    for _ in range(2):
        push(candidate, target, Steps(None), Plan())
    target.promote(2, Steps(None))
    assert target.labels() == {"stable": 2}
    assert target.roll_back(Steps(None), to=1) == 1
    assert target.labels() == {"stable": 1}


def test_a_rollback_goes_to_what_was_promoted_before(target: RemoteTarget, candidate: Path) -> None:
    for _ in range(3):
        push(candidate, target, Steps(None), Plan(promote=True))
    assert [target.roll_back(Steps(None), to=None, why="it is bad") for _ in range(2)] == [2, 1]
    assert target.labels()["stable"] == 1
    with pytest.raises(ReleaseError):
        target.roll_back(Steps(None), to=None)


def test_a_rollback_needs_something_to_go_back_to(target: RemoteTarget, candidate: Path) -> None:
    push(candidate, target, Steps(None), Plan())
    with pytest.raises(ReleaseError):
        target.roll_back(Steps(None), to=None)
    assert target.labels() == {"stable": 1}


def test_each_move_is_in_the_history(target: RemoteTarget, candidate: Path) -> None:
    for _ in range(2):
        push(candidate, target, Steps(None), Plan())
    target.promote(2, Steps(None), why="better at coats")
    target.promote(2, Steps(None))
    target.roll_back(Steps(None), to=1)
    found = [
        (one["what"], one.get("label"), one["version"], one.get("before"), one.get("why"))
        for one in target.remote.history("garments")
    ]
    assert found == [
        ("publish", None, 1, None, None),
        ("push", "stable", 1, None, None),
        ("publish", None, 2, None, None),
        ("push", "canary", 2, None, None),
        ("promote", "stable", 2, 1, "better at coats"),
        ("rollback", "stable", 1, 2, None),
    ]


def test_a_missing_version_is_not_promoted(target: RemoteTarget) -> None:
    with pytest.raises(StoreError):
        target.promote(9, Steps(None))


def test_a_target_says_where_it_is(target: RemoteTarget) -> None:
    assert target.location == target.remote.url
    assert target.describe(2) == f"version 2 of garments at {target.remote.url}"
