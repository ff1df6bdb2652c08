"""models.config as text."""

from __future__ import annotations

from pathlib import Path

from servable_client._errors import InvalidInput
from servable_client._wire import wire_pb2 as wire


def config_of(config: str | Path) -> wire.ModelServerConfig:
    """Parse a ModelServerConfig, from its text or a file.

    Raises:
        InvalidInput: The text is not a valid ModelServerConfig, `reason` being that of the
            parser; or the file cannot be read.
    """
    if isinstance(config, Path):
        try:
            text = config.read_text()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InvalidInput(f"cannot read {config}: {reason}") from error
    elif isinstance(config, str):
        text = config
    else:
        raise InvalidInput(
            "config must be the text of a ModelServerConfig or the Path of a file, "
            f"got a value of type {type(config).__name__}"
        )
    from google.protobuf import text_format

    try:
        return text_format.Parse(text, wire.ModelServerConfig())
    except text_format.ParseError as error:
        raise InvalidInput(
            f"not a valid ModelServerConfig: {error}",
            reason=str(error),
            hint="pass its text, model_config_list { ... }, or the Path of a file that contains it",
        ) from None
