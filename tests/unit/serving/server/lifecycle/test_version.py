"""One version: who uses it, and when the last of them has gone."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.serving.server.fakes import FakeModel

from servable_serving.core.errors import ModelError
from servable_serving.server.lifecycle.version import Version


class Drained(list[Version]):
    """The versions whose last user has gone."""


@pytest.fixture
def drained() -> Drained:
    return Drained()


@pytest.fixture
def version(drained: Drained) -> Version:
    made = Version(3, Path("m/3"), changed=drained.append)
    made.model = FakeModel()
    return made


def test_a_new_version_has_not_begun(version: Version) -> None:
    assert (version.state, version.aspired, version.attempts) == ("START", True, 0)


def test_an_unused_version_drains_at_once(version: Version, drained: Drained) -> None:
    version.drain()
    assert drained == [version]


def test_a_used_version_drains_with_its_last_user(version: Version, drained: Drained) -> None:
    assert version.acquire()
    assert version.acquire()
    version.drain()
    version.release()
    assert drained == []
    version.release()
    assert drained == [version]


def test_a_user_that_goes_before_the_drain_does_not_end_it(
    version: Version, drained: Drained
) -> None:
    assert version.acquire()
    version.release()
    assert drained == []


def test_a_draining_version_takes_no_user(version: Version) -> None:
    version.drain()
    assert not version.acquire()


def test_a_use_is_over_when_its_block_ends(version: Version, drained: Drained) -> None:
    assert version.acquire()
    with version.used() as model:
        version.drain()
        assert model is version.model
        assert drained == []
    assert drained == [version]


def test_a_use_is_over_when_its_block_raises(version: Version, drained: Drained) -> None:
    assert version.acquire()
    version.drain()
    with pytest.raises(ZeroDivisionError), version.used():
        raise ZeroDivisionError
    assert drained == [version]


@pytest.mark.parametrize("state", ["START", "LOADING", "AVAILABLE", "UNLOADING", "END"])
def test_a_version_is_settled_once_it_is_available_or_over(version: Version, state: str) -> None:
    version.state = state
    assert version.settled == (state in {"AVAILABLE", "END"})


def test_the_status_of_a_version_without_error(version: Version) -> None:
    status = version.status()
    assert (status.version, status.state, status.error_code) == (3, "START", "OK")


def test_the_status_has_the_error(version: Version) -> None:
    version.error = ModelError("DATA_LOSS", "cut short")
    status = version.status()
    assert (status.error_code, status.error_message) == ("DATA_LOSS", "cut short")
