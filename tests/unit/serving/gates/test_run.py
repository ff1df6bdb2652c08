"""Running the gates: their order, what is skipped, and what a failure ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from servable_client import InvalidInput, ServableError
from servable_serving.gates.run import _run, check_skips
from servable_serving.gates.verdict import GATES, Finding, GateError, Refused, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable


def passes(said: str = "well") -> Callable[[], Verdict]:
    return lambda: Verdict(said=said, figures={"count": 1})


def nothing_to_check() -> Verdict:
    return Verdict(outcome="skipped", said="no images")


def fails() -> Verdict:
    raise Refused("too slow", hint="make it smaller", figures={"ms": 9})


def breaks() -> Verdict:
    raise ServableError("the server cannot be started", hint="install it")


def never() -> Verdict:
    raise AssertionError("it was run")


def test_every_gate_that_passes_has_a_finding() -> None:
    findings = _run({"structure": passes(), "size": passes("small")}, {}, lambda _: None)
    assert [(f.gate, f.outcome, f.said) for f in findings] == [
        ("structure", "passed", "well"), ("size", "passed", "small"),
    ]  # fmt: skip
    assert findings[0].figures == {"count": 1}


def test_a_skipped_gate_does_not_run_and_keeps_the_reason() -> None:
    (finding,) = _run({"trial": never}, {"trial": "no time"}, lambda _: None)
    assert (finding.outcome, finding.said, finding.figures) == (
        "skipped", "no time", {"why": "no time"},
    )  # fmt: skip


def test_a_gate_may_have_nothing_to_check() -> None:
    (finding,) = _run({"accuracy": nothing_to_check}, {}, lambda _: None)
    assert finding.outcome == "skipped"


def test_the_first_failure_ends_the_run() -> None:
    with pytest.raises(GateError) as caught:
        _run({"structure": passes(), "latency": fails, "size": never}, {}, lambda _: None)
    assert caught.value.finding.gate == "latency"
    assert caught.value.finding.figures == {"ms": 9}
    assert caught.value.hint == "make it smaller"


def test_an_error_is_a_failure_of_the_gate() -> None:
    with pytest.raises(GateError) as caught:
        _run({"trial": breaks}, {}, lambda _: None)
    assert caught.value.finding.outcome == "failed"
    assert caught.value.hint == "install it"


def test_an_unexpected_error_is_not_hidden() -> None:
    with pytest.raises(AssertionError):
        _run({"trial": never}, {}, lambda _: None)


def test_each_finding_is_told_and_that_of_a_failure_too() -> None:
    told: list[Finding] = []
    with pytest.raises(GateError) as caught:
        _run({"structure": passes(), "size": fails}, {}, told.append)
    assert [finding.outcome for finding in told] == ["passed", "failed"]
    assert told[-1] is caught.value.finding


@pytest.mark.parametrize("gate", [gate for gate in GATES if gate != "structure"])
def test_a_gate_can_be_skipped_with_a_reason(gate: str) -> None:
    check_skips({gate: "a reason"})


@pytest.mark.parametrize(
    "skip", [{"structure": "a reason"}, {"luck": "a reason"}, {"trial": ""}, {"trial": " "}]
)
def test_an_invalid_skip_is_refused(skip: dict[str, str]) -> None:
    with pytest.raises(InvalidInput):
        check_skips(skip)
