"""Commands that are killed at any moment: what is visible stays whole, and they can be repeated."""

from __future__ import annotations

import json
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import pytest
from tests.conftest import NAME
from tests.forked import started
from tests.functional.serving.releases import skipping
from tests.in_process import command

from servable_serving.core.addresses import is_url
from servable_serving.repository.models_config import ModelsConfig

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

# Of each command, times the rounds of `make test-reliability`.
KILLS = 4
# What a killed command may leave, which nothing reads and the next one removes.
LEFT = (".incoming-", ".pruned-", "no manifest")


@dataclass
class Place:
    """A repository, in a folder or behind a URL, and a candidate to push.

    Args:
        folder: A folder of its own.
        candidate: The candidate.
        at: What names the repository to a command.
    """

    folder: Path
    candidate: Path
    at: list[str]

    def named(self, arguments: Sequence[object]) -> list[object]:
        """A command, of the repository and the model; a push takes the name of its candidate."""
        return [*arguments, *(self.at[:2] if arguments[0] == "push" else self.at)]

    def run(self, *arguments: object) -> Any:
        """Run a command to its end; its result."""
        done = command(*self.named(arguments), "--json")
        assert done.returncode == 0, (arguments, done.stderr)
        return json.loads(done.stdout)

    def push(self) -> int:
        """Publish another version."""
        return int(self.run("push", self.candidate, *skipping(), *self.quietly)["version"])

    @property
    def is_remote(self) -> bool:
        return is_url(self.at[1])

    @property
    def quietly(self) -> list[str]:
        """Without a server, where one would be waited for."""
        return [] if self.is_remote else ["--no-wait"]

    @property
    def offline(self) -> list[str]:
        """Without a server, where one would be asked."""
        return [] if self.is_remote else ["--offline"]

    def versions(self) -> dict[int, Any]:
        return {one["version"]: one for one in self.run("versions", *self.offline)}

    def check(self, *, after_kill: bool) -> None:
        """Every version that servers load or that has a label is there, and whole."""
        done = command("verify", *self.at, "--json")
        troubles = [one for one in json.loads(done.stdout) if one["trouble"]]
        if after_kill:
            troubles = [
                one for one in troubles
                if not any(word in f"{one['what']} {one['trouble']}" for word in LEFT)
            ]  # fmt: skip
        assert not troubles
        labelled = {label for one in self.versions().values() for label in one["labels"]}
        assert "stable" in labelled


class Prepare(Protocol):
    """Makes the next attempt of a command possible, and gives its arguments."""

    def __call__(self, place: Place) -> list[object]: ...


def push(place: Place) -> list[object]:
    return ["push", place.candidate, *skipping(), *place.quietly]


def promote(place: Place) -> list[object]:
    stable = next(v for v, one in place.versions().items() if "stable" in one["labels"])
    return ["promote", 3 - stable, *place.quietly]


def rollback(place: Place) -> list[object]:
    stable = next(v for v, one in place.versions().items() if "stable" in one["labels"])
    return ["rollback", "--to", 3 - stable, *place.quietly]


def prune(place: Place) -> list[object]:
    for _ in range(2):
        place.push()
    return ["prune", "--keep", 1, *place.offline]


@pytest.fixture(params=["a folder", "a URL"])
def place(request: pytest.FixtureRequest, other: Path, tmp_path: Path) -> Place:
    """A repository with version 1 stable and version 2 canary."""
    at = (
        ["--repository", str(tmp_path / "models" / NAME), "--model", NAME]
        if request.param == "a folder"
        else ["--repository", f"file://{tmp_path}/remote", "--model", NAME]
    )
    place = Place(tmp_path, other, at)
    for _ in range(2):
        place.push()
    return place


def seconds_of(arguments: list[object], log: Path) -> float:
    """How long a command takes that is not killed."""
    began = time.monotonic()
    process = started(*arguments, log=log)
    process.join(300)
    assert process.exitcode == 0, log.read_text()
    return time.monotonic() - began


def killed(arguments: list[object], log: Path, seconds: float) -> bool:
    """Start a command, and kill it after a time; whether it was running still."""
    process = started(*arguments, log=log)
    process.join(seconds)
    was_running = process.exitcode is None
    process.kill()
    process.join()
    return was_running


def moments(kills: int, whole: float) -> Iterator[float]:
    """Moments within a command's run, other ones each time, spread over all of it."""
    for number in range(kills):
        yield whole * (number + random.random()) / kills


@pytest.mark.parametrize("prepare", [push, promote, rollback, prune], ids=lambda one: one.__name__)
def test_a_command_that_is_killed_can_be_repeated(
    prepare: Prepare,
    place: Place,
    tmp_path: Path,
    pytestconfig: pytest.Config,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A killed holder's lock behind a URL.
    monkeypatch.setattr("servable_serving.repository.remote._TURN_SECONDS", 0.5)
    kills = KILLS * pytestconfig.getoption("reliability_rounds")
    whole = seconds_of(place.named(prepare(place)), tmp_path / "log")
    ran = 0
    for seconds in moments(kills, whole):
        arguments = prepare(place)
        ran += killed(place.named(arguments), tmp_path / "log", seconds)
        place.check(after_kill=True)
        place.run(*arguments)
        # What is left behind a URL is deleted after a day: it may be a push that is running.
        place.check(after_kill=place.is_remote)
    assert ran


def test_a_mirror_that_is_killed_can_be_repeated(
    other: Path, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    kills = KILLS * pytestconfig.getoption("reliability_rounds")
    remote = Place(tmp_path, other, ["--repository", f"file://{tmp_path}/remote", "--model", NAME])
    remote.push()
    models = tmp_path / "models"
    arguments: list[object] = ["sync", remote.at[1], models, "--delete"]
    whole = seconds_of(arguments, tmp_path / "log")
    local = Place(tmp_path, other, ["--repository", str(models / NAME), "--model", NAME])
    ran = 0
    for seconds in moments(kills, whole):
        version = remote.push()
        remote.run("promote", version)
        ran += killed(arguments, tmp_path / "log", seconds)
        local.check(after_kill=True)
        assert command(*arguments).returncode == 0
        local.check(after_kill=False)
        assert ModelsConfig(models).labels(NAME)["stable"] == version
    assert ran
