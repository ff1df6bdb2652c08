"""The flow of a push, with a target that records what is done to it."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from servable_serving.gates.verdict import Finding, GateError
from servable_serving.release import push as module
from servable_serving.release.push import Plan, push, run_gates
from servable_serving.release.server_group import ReleaseError
from servable_serving.release.steps import Steps
from servable_serving.repository.candidate import Candidate

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


class Interrupted(BaseException):
    """As Ctrl-C."""


@dataclass
class FakeTarget:
    """Records the calls; `fail` raises in one of them."""

    fail: str = ""
    error: BaseException = field(default_factory=lambda: ReleaseError("it failed"))
    current: Path | None = None
    calls: list[str] = field(default_factory=list)
    about: Mapping[str, Any] = field(default_factory=dict)
    version: int | None = None
    promoted: bool | None = None
    location: str = "models/garments"

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name == self.fail:
            raise self.error

    def describe(self, version: int) -> str:
        return f"version {version}"

    def labels(self) -> dict[str, int]:
        return {}

    def check(self, plan: Plan) -> None:
        del plan
        self._call("check")

    @contextmanager
    def served(self, steps: Steps) -> Iterator[Path | None]:
        del steps
        self._call("served")
        yield self.current
        self.calls.append("compared")

    @contextmanager
    def publishing(self, steps: Steps) -> Iterator[None]:
        del steps
        self._call("lock")
        try:
            yield
        finally:
            self.calls.append("unlock")

    def publish(
        self, candidate: Candidate, steps: Steps, *, version: int | None, about: Mapping[str, Any]
    ) -> int:
        del candidate, steps
        self.about, self.version = about, version
        self._call("publish")
        return 7

    def bring_up(self, version: int, candidate: Candidate, steps: Steps) -> None:
        del candidate, steps
        assert version == 7
        self._call("bring_up")

    def quarantine(self, version: int, steps: Steps, error: BaseException) -> None:
        del steps
        assert (version, error) == (7, self.error)
        self._call("quarantine")

    def label(self, version: int, steps: Steps, *, promote: bool) -> None:
        del steps
        assert version == 7
        self.promoted = promote
        self._call("label")

    def promote(self, version: int, steps: Steps, *, why: str | None = None) -> None:
        raise NotImplementedError

    def roll_back(self, steps: Steps, *, to: int | None, why: str | None = None) -> int:
        raise NotImplementedError


@dataclass
class FakeGates:
    """Takes the place of `inspect`."""

    findings: list[Finding]
    asked: dict[str, Any] = field(default_factory=dict)

    def __call__(self, candidate: Candidate, **asked: Any) -> list[Finding]:
        self.asked = {"candidate": candidate, **asked}
        for finding in self.findings:
            asked["tell"](finding)
            if finding.outcome == "failed":
                raise GateError(finding)
        return self.findings


def finding(outcome: str = "passed") -> Finding:
    return Finding(gate="trial", outcome=outcome, said="well", seconds=1.0, figures={})


@pytest.fixture
def gates(monkeypatch: pytest.MonkeyPatch) -> FakeGates:
    fake = FakeGates([finding()])
    monkeypatch.setattr(module, "inspect", fake)
    return fake


@pytest.mark.usefixtures("gates")
def test_a_push_takes_every_step_in_order(candidate: Path) -> None:
    target = FakeTarget()
    assert push(candidate, target, Steps(None), Plan()) == 7
    assert target.calls == [
        "check", "served", "compared", "lock", "publish", "bring_up", "label", "unlock",
    ]  # fmt: skip


@pytest.mark.usefixtures("gates")
def test_the_gates_are_prepared_after_the_target_is_checked(candidate: Path) -> None:
    target = FakeTarget()
    push(candidate, target, Steps(None), Plan(prepare=lambda: target.calls.append("prepare")))
    assert target.calls[:3] == ["check", "prepare", "served"]


@pytest.mark.usefixtures("gates")
def test_a_dry_run_only_runs_the_gates(candidate: Path) -> None:
    target = FakeTarget()
    assert push(candidate, target, Steps(None), Plan(dry_run=True)) is None
    assert target.calls == ["check", "served", "compared"]


@pytest.mark.parametrize("step", ["check", "served", "lock", "publish"])
@pytest.mark.usefixtures("gates")
def test_a_failure_before_the_version_is_published_changes_nothing(
    candidate: Path, step: str
) -> None:
    target = FakeTarget(fail=step)
    with pytest.raises(ReleaseError):
        push(candidate, target, Steps(None), Plan())
    assert "bring_up" not in target.calls
    assert "quarantine" not in target.calls
    assert "label" not in target.calls


@pytest.mark.parametrize("error", [ReleaseError("it failed"), Interrupted()])
@pytest.mark.usefixtures("gates")
def test_a_version_that_does_not_come_up_is_quarantined(
    candidate: Path, error: BaseException
) -> None:
    target = FakeTarget(fail="bring_up", error=error)
    with pytest.raises(type(error)):
        push(candidate, target, Steps(None), Plan())
    assert target.calls[-3:] == ["bring_up", "quarantine", "unlock"]


@pytest.mark.usefixtures("gates")
def test_a_version_that_gets_no_label_is_not_quarantined(candidate: Path) -> None:
    target = FakeTarget(fail="label")
    with pytest.raises(ReleaseError):
        push(candidate, target, Steps(None), Plan())
    assert target.calls[-2:] == ["label", "unlock"]


def test_a_candidate_that_fails_a_gate_is_not_published(candidate: Path, gates: FakeGates) -> None:
    gates.findings = [finding("failed")]
    target, steps = FakeTarget(), Steps(None)
    with pytest.raises(GateError):
        push(candidate, target, steps, Plan())
    assert target.calls == ["check", "served"]
    assert [step.outcome for step in steps.taken] == ["failed"]


@pytest.mark.parametrize("promote", [True, False])
@pytest.mark.usefixtures("gates")
def test_the_plan_says_which_label(candidate: Path, promote: bool) -> None:
    target = FakeTarget()
    push(candidate, target, Steps(None), Plan(promote=promote))
    assert target.promoted is promote


@pytest.mark.usefixtures("gates")
def test_the_plan_says_which_version(candidate: Path) -> None:
    target = FakeTarget()
    push(candidate, target, Steps(None), Plan(version=12))
    assert target.version == 12


@pytest.mark.usefixtures("gates")
def test_the_findings_go_into_the_history(candidate: Path) -> None:
    target = FakeTarget()
    push(candidate, target, Steps(None), Plan(skip={"size": "why"}))
    assert target.about == {
        "skipped": {"size": "why"},
        "gates": [{"gate": "trial", "outcome": "passed", "said": "well"}],
    }


def test_one_candidate_goes_through_gates_and_target(candidate: Path, gates: FakeGates) -> None:
    files = Candidate(candidate)
    push(files, FakeTarget(), Steps(None), Plan())
    assert gates.asked["candidate"] is files


def test_the_gates_get_the_plan(candidate: Path, gates: FakeGates, tmp_path: Path) -> None:
    plan = Plan(skip={"size": "why"}, trial_server=tmp_path / "server")
    run_gates(Candidate(candidate), tmp_path / "served", Steps(None), plan)
    assert gates.asked["served"] == tmp_path / "served"
    assert gates.asked["skip"] == {"size": "why"}
    assert gates.asked["server"] == tmp_path / "server"
    assert gates.asked["holdout"] is None


def test_the_gates_are_steps(candidate: Path, gates: FakeGates) -> None:
    gates.findings = [finding(), finding("skipped")]
    steps = Steps(None)
    run_gates(Candidate(candidate), None, steps, Plan())
    assert [(step.name, step.outcome) for step in steps.taken] == [
        ("trial", "passed"), ("trial", "skipped"),
    ]  # fmt: skip
