"""The steps of a release, as a person and as a machine read them."""

from __future__ import annotations

import io

import pytest

from servable_serving.release.steps import Steps


def test_a_step_is_a_line_with_its_duration() -> None:
    out = io.StringIO()
    with Steps(out).step("stage") as step:
        step.said = "published version 1"
    name, seconds, unit, said = out.getvalue().split(maxsplit=3)
    assert (name, unit, said) == ("stage", "s", "published version 1\n")
    assert float(seconds) >= 0


def test_the_name_is_written_when_the_step_begins() -> None:
    out = io.StringIO()
    with Steps(out).step("wait"):
        assert out.getvalue().strip() == "wait"


def fail(steps: Steps) -> None:
    with steps.step("wait") as step:
        step.said = "fine so far"
        raise RuntimeError


def test_a_step_that_raises_has_failed() -> None:
    steps = Steps(None)
    with pytest.raises(RuntimeError):
        fail(steps)
    assert [(step.name, step.outcome, step.said) for step in steps.taken] == [
        ("wait", "failed", "failed")
    ]


@pytest.mark.parametrize(
    ("outcome", "said", "line"),
    [
        ("passed", "all good", "all good"),
        ("skipped", "a reason", "skipped: a reason"),
        ("skipped", "skipped before as well", "skipped: skipped before as well"),
        ("failed", "failed to load", "failed: failed to load"),
    ],
)
def test_a_step_from_elsewhere_has_its_outcome(outcome: str, said: str, line: str) -> None:
    out = io.StringIO()
    Steps(out).note("trial", outcome=outcome, said=said, seconds=1.5)
    assert out.getvalue() == f"trial        1.50 s  {line}\n"


def test_steps_without_a_stream_are_kept() -> None:
    steps = Steps(None)
    steps.say("between")
    steps.note("trial", outcome="passed", said="well", seconds=1.23456)
    assert steps.as_json() == [
        {"name": "trial", "outcome": "passed", "said": "well", "seconds": 1.235}
    ]


def test_a_line_between_the_steps_is_no_step() -> None:
    out = io.StringIO()
    steps = Steps(out)
    steps.say("another push is running")
    assert (out.getvalue(), steps.taken) == ("another push is running\n", [])


def test_a_line_within_a_step_stands_alone() -> None:
    out = io.StringIO()
    steps = Steps(out)
    with steps.step("watch") as step:
        steps.say("1:00 left")
        steps.say("0:30 left")
        step.said = "done"
    with steps.step("label"):
        pass
    lines = out.getvalue().splitlines()
    assert lines[1:3] == ["1:00 left", "0:30 left"]
    assert [lines[0].split(), lines[3].split()] == [["watch"], ["watch", "0.00", "s", "done"]]
    assert lines[4].split() == ["label", "0.00", "s"]
