"""Errors about mirrored requests."""

from __future__ import annotations

from servable_client import ServableError


class NoMirror(ServableError):
    """What `servable gateway-metrics` found of mirrored requests cannot be read."""


class Drifted(ServableError):
    """Inputs or answers are not distributed as expected."""
