"""The log of `servable serve`: one line per event, as text or as JSON."""

from __future__ import annotations

import logging
import sys

from pythonjsonlogger.json import JsonFormatter


def log_to_stderr(*, as_json: bool) -> None:
    """Send the logs of Servable to standard error.

    Args:
        as_json: A JSON object a line, with what the sentence says in fields; else the sentence.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        JsonFormatter(
            "{levelname}{name}{message}",
            style="{",
            timestamp=True,
            rename_fields={"levelname": "level", "name": "logger"},
        )
        if as_json
        else logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    )
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    # TensorFlow logs its own deprecations; failures raise exceptions.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
