"""What a server or a file says is printed, and never obeyed."""

from __future__ import annotations

import json

import pytest

from servable_client import ServableError
from servable_client.cli.console import (
    print_error,
    print_json,
    print_table,
    printable,
    say,
)

# Clears the screen, renames the window, in seven bits and in eight.
HOSTILE = "\x1b[2Jbad\x1b]0;title\x07\x9b31m\x7f\r"


def test_text_is_left_as_it_is() -> None:
    text = "T-shirt/top\t95 %\nStiefel für Äpfel: 靴 \N{ATHLETIC SHOE}"
    assert printable(text) == text


def test_control_characters_become_escapes() -> None:
    assert printable(HOSTILE) == r"\x1b[2Jbad\x1b]0;title\x07\x9b31m\x7f\x0d"


def test_nothing_that_is_printed_controls_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    say(HOSTILE)
    print_error(ServableError(HOSTILE, hint=HOSTILE))
    print_table(("label",), [(HOSTILE,)], title=HOSTILE)
    print_json({"label": HOSTILE})
    out, err = capsys.readouterr()
    for text in (out, err):
        assert not set(text) & set("\x1b\x07\x9b\x7f\r")
    start = out.index("{")
    assert json.loads(out[start:]) == {"label": HOSTILE}
    assert err.count(r"\x1b[2Jbad") == 3
