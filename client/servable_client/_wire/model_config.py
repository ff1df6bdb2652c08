"""models.config as text."""

from __future__ import annotations

from pathlib import Path

from servable_client._errors import InvalidInput
from servable_client._wire import wire_pb2 as wire


def config_of(config: str | Path) -> wire.ModelServerConfig:
    """A ModelServerConfig, from its text or a file.

    Raises:
        InvalidInput: It is none.
    """
    if isinstance(config, Path):
        try:
            text = config.read_text()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InvalidInput(f"cannot read {config}: {reason}") from error
    else:
        text = config
    from google.protobuf import text_format

    try:
        return text_format.Parse(text, wire.ModelServerConfig())
    except text_format.ParseError as error:
        raise InvalidInput(
            f"this is no ModelServerConfig: {error}",
            hint="give its text, model_config_list { ... }, or a Path to a file with it",
        ) from None
