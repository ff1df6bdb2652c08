"""`servable canary`: what it refuses before it asks anybody."""

from __future__ import annotations

import pytest
import typer
from typer.testing import CliRunner

from servable_serving.cli.canary import register


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["two"],
        ["2", "--share", "200%"],
        ["2", "--share", "0"],
        ["2", "--for", "soon"],
        ["2", "--for", "0s"],
        ["2", "--max-errors", "many"],
        ["2", "--max-latency-ratio", "0.5"],
        ["2", "--min-requests", "0"],
    ],
)
def test_a_usage_error_has_status_2(arguments: list[str]) -> None:
    app = typer.Typer()
    register(app)
    assert CliRunner().invoke(app, arguments).exit_code == 2
