"""Errors of the gateway."""

from __future__ import annotations

from servable_client._errors import ServableError

USAGE = 2


class GatewayError(ServableError):
    """The gateway cannot start.

    Attributes:
        exit_status: The command's: 2 for invalid settings, 1 for all else.
    """

    def __init__(self, message: str, *, exit_status: int = 1) -> None:
        super().__init__(message)
        self.exit_status = exit_status
