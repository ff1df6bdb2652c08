"""The history in words."""

from __future__ import annotations

from typing import Any

import pytest

from servable_serving.release.events import happened
from servable_serving.repository.history import event, moved

GATES = [
    {"gate": "structure", "outcome": "passed", "said": "6 files match"},
    {"gate": "accuracy", "outcome": "passed", "said": "0.9452 on 10,000 images; served 0.9431"},
    {"gate": "latency", "outcome": "skipped", "said": "a rehearsal"},
]


def told(found: dict[str, Any]) -> str:
    return happened([found])[0].told


def test_a_published_version_has_the_figures_of_its_gates() -> None:
    (one,) = happened([event("publish", version=3, gates=GATES)])
    assert (one.what, one.version, len(one.gates)) == ("publish", 3, 3)
    assert one.told.splitlines() == [
        "accuracy: 0.9452 on 10,000 images; served 0.9431",
        "latency skipped: a rehearsal",
    ]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (moved("push", "canary", 3, None, None), "canary moved to version 3"),
        (
            moved("rollback", "stable", 2, 3, "coats are called shirts"),
            "stable moved from version 3 to version 2\ncoats are called shirts",
        ),
        (
            event("canary", version=3, outcome="rolled back", reason="error rate 4 %", share=0.1),
            "rolled back: error rate 4 %",
        ),
        (
            event("reject", version=3, step="smoke", reason="it answers nan"),
            "at smoke: it answers nan",
        ),
        (event("prune", version=1), ""),
    ],
    ids=["push", "rollback", "canary", "reject", "prune"],
)
def test_what_happened_and_why(found: dict[str, Any], expected: str) -> None:
    assert told(found) == expected


def test_one_version_and_the_latest() -> None:
    events = [
        event("publish", version=1), event("publish", version=2),
        moved("promote", "stable", 2, 1, None), event("prune", version=7),
    ]  # fmt: skip
    assert [one.what for one in happened(events, version=1)] == ["publish", "promote"]
    assert [one.what for one in happened(events, last=2)] == ["promote", "prune"]
    assert len(happened(events, last=99)) == 4


def test_facts_of_other_types_are_left_out() -> None:
    (one,) = happened([{"what": "publish", "version": "3", "when": 5, "gates": [1, {"gate": 2}]}])
    assert (one.version, one.when, one.who) == (None, None, None)
    assert one.told == "2 : "
