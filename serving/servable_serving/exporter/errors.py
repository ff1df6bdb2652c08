"""The error of an export, in a module that needs no TensorFlow."""

from __future__ import annotations

from servable_client import ServableError


class ExportError(ServableError):
    """A model cannot be exported, or not without being told more about it."""
