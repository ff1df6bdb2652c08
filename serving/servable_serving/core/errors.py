"""Errors that several sub-packages raise, in a module that needs no TensorFlow."""

from __future__ import annotations

from servable_client import ServableError


class FolderError(ServableError):
    """A folder exists already, or cannot be read or written."""


class UserCodeError(ServableError):
    """A module, class or function that a user named cannot be imported, or failed."""


class ModelError(ServableError):
    """A SavedModel cannot be loaded or run; `code` is as in TensorFlow Serving."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message, code=code)


def invalid(message: str) -> ModelError:
    """An INVALID_ARGUMENT error with this message."""
    return ModelError("INVALID_ARGUMENT", message)
