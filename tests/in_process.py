"""The command `servable` in the process of the tests, which has imported TensorFlow already."""

from __future__ import annotations

import contextlib
import io
import sys
from subprocess import CompletedProcess
from unittest.mock import patch

from servable_client.cli.app import main


def command(*arguments: object) -> CompletedProcess[str]:
    """Run the command; its exit status, standard output and standard error."""
    out, err = io.StringIO(), io.StringIO()
    status = 0
    with (
        patch.object(sys, "argv", ["servable", *map(str, arguments)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
    return CompletedProcess(list(map(str, arguments)), status, out.getvalue(), err.getvalue())
