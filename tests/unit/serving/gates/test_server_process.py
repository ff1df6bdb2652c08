"""What the trial server's log tells of a load that failed."""

from __future__ import annotations

import json

import pytest

from servable_serving.gates.trial.server_process import failed_load, one_line


def record(event: str, message: str) -> str:
    return json.dumps({"level": "ERROR", "event": event, "message": message})


def test_the_message_of_a_failed_load_is_found() -> None:
    log = f"{record('load_failed', 'm: version 1 failed to load: no graph')}\nservable: ended\n"
    assert failed_load(log) == "m: version 1 failed to load: no graph"


def test_the_last_of_several_counts() -> None:
    log = "\n".join([record("load_failed", "first"), record("load_failed", "second")])
    assert failed_load(log) == "second"


@pytest.mark.parametrize(
    "log",
    [
        "",
        "2026-01-02 03:04:05: E tensorflow/core: load_failed\n",
        record("serving", "serving at 127.0.0.1"),
        '"load_failed"\n["load_failed"]\n17\nnull\n',
        '{"event": "load_failed", "mess',
    ],
)
def test_a_log_without_one_has_none(log: str) -> None:
    assert failed_load(log) is None


@pytest.mark.parametrize(
    ("text", "line"),
    [("a\n  b\t c ", "a b c"), ("x" * 10, "x" * 10), ("x" * 11, "x" * 10 + "..."), ("", "")],
)
def test_a_text_becomes_one_line_of_limited_length(text: str, line: str) -> None:
    assert one_line(text, most=10) == line
