"""Hints at the command line, which name options and not arguments of Python."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

import pytest
from tests.conftest import ROOT

from servable_client import InvalidInput
from servable_client.cli.console import print_error
from servable_client.cli.hints import for_command
from servable_client.cli.options import usage_error

if TYPE_CHECKING:
    from collections.abc import Iterator

# Arguments in Python, such as `token=` or TLS(ca=...).
_ARGUMENT = re.compile(r"\b[a-z_]+=(?!\d)|`\w+\(\)`")
# Hints of errors that no command can cause.
_NOT_AT_THE_COMMAND_LINE = (
    "pickle_secrets",
    "np.asarray",
    ".astype(",
    "image.convert(",
    "timeout=",
)


def _hints() -> Iterator[str]:
    """The text of every hint in the client."""
    for file in sorted((ROOT / "client").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            given: list[ast.expr] = []
            if isinstance(node, ast.Call):
                given = [word.value for word in node.keywords if word.arg == "hint"]
            elif isinstance(node, ast.Assign):
                given = [node.value] if "hint" in ast.unparse(node.targets[0]) else []
            for value in given:
                yield "".join(
                    part.value
                    for part in ast.walk(value)
                    if isinstance(part, ast.Constant) and isinstance(part.value, str)
                )


def test_hints_at_the_command_line_name_no_arguments_of_python() -> None:
    hints = [h for h in _hints() if not any(word in h for word in _NOT_AT_THE_COMMAND_LINE)]
    assert any(_ARGUMENT.search(hint) for hint in hints)
    assert [hint for hint in hints if _ARGUMENT.search(for_command(hint) or "")] == []


def test_errors_and_usage_errors_have_the_hints_of_the_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    error = InvalidInput("no", hint="pass credentials as `api_key=` or `token=`")
    assert "--api-key or --token" in str(usage_error(error))
    print_error(error)
    assert "--api-key or --token" in capsys.readouterr().err
