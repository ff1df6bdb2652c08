"""models.config as text."""

from __future__ import annotations

from pathlib import Path

from servable_client._errors import InvalidInput
from servable_client._wire import wire_pb2 as wire


class InvalidModelConfig(InvalidInput):
    """A text that is not a ModelServerConfig.

    Attributes:
        reason: What the parser found, without the sentence around it.
    """

    def __init__(self, message: str, *, reason: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


def config_of(config: str | Path) -> wire.ModelServerConfig:
    """Parse a ModelServerConfig, from its text or a file.

    Raises:
        InvalidModelConfig: The text is not a valid ModelServerConfig.
        InvalidInput: The file cannot be read.
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
        raise InvalidModelConfig(
            f"not a valid ModelServerConfig: {error}",
            reason=str(error),
            hint="pass its text, model_config_list { ... }, or the Path of a file that contains it",
        ) from None
