"""The log of the commands that run for long: as text or as JSON."""

from __future__ import annotations

import json
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from servable_serving.core.logs import log_to_stderr

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def logging_set_up(*, as_json: bool) -> Iterator[None]:
    """Logging as in a fresh process, without pytest's own handlers; afterwards as it was."""
    root, tensorflow = logging.getLogger(), logging.getLogger("tensorflow")
    handlers, levels = root.handlers[:], (root.level, tensorflow.level)
    root.handlers[:] = []
    try:
        log_to_stderr(as_json=as_json)
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(levels[0])
        tensorflow.setLevel(levels[1])


def json_of(text: str) -> dict[str, Any]:
    (line,) = text.splitlines()
    return dict(json.loads(line))


def test_text_is_a_line_with_level_and_message(capsys: pytest.CaptureFixture[str]) -> None:
    with logging_set_up(as_json=False):
        logging.getLogger("servable.sync").warning("applied %s", "it", extra={"event": "config"})
    assert capsys.readouterr().err.endswith(" WARNING applied it\n")


def test_json_has_the_names_that_collectors_read(capsys: pytest.CaptureFixture[str]) -> None:
    with logging_set_up(as_json=True):
        logging.getLogger("servable.sync").info("applied %s", "it")
    record = json_of(capsys.readouterr().err)
    assert record.pop("timestamp")
    assert record == {"level": "INFO", "logger": "servable.sync", "message": "applied it"}


def test_json_has_the_fields_of_an_event(capsys: pytest.CaptureFixture[str]) -> None:
    with logging_set_up(as_json=True):
        logging.getLogger("servable").info("x", extra={"event": "load", "version": 3})
    record = json_of(capsys.readouterr().err)
    assert (record["event"], record["version"]) == ("load", 3)


def test_json_keeps_a_message_of_several_lines_on_one(capsys: pytest.CaptureFixture[str]) -> None:
    with logging_set_up(as_json=True):
        logging.getLogger("servable").error("one\ntwo")
    assert json_of(capsys.readouterr().err)["message"] == "one\ntwo"


@pytest.mark.parametrize("as_json", [True, False])
def test_debugging_is_left_out(capsys: pytest.CaptureFixture[str], as_json: bool) -> None:
    with logging_set_up(as_json=as_json):
        logging.getLogger("servable").debug("detail")
    assert capsys.readouterr().err == ""


def test_tensorflow_logs_errors_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with logging_set_up(as_json=False):
        logging.getLogger("tensorflow").warning("deprecated")
    assert capsys.readouterr().err == ""
