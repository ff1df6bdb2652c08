"""Add the sub-commands of serving to the `servable` app."""

from __future__ import annotations

from typing import TYPE_CHECKING

from servable_serving.cli import canary, gateway, inventory, release, stack, sync
from servable_serving.cli.serve import serve
from servable_serving.cli.server_flags import ServerFlags

if TYPE_CHECKING:
    import typer


def register(app: typer.Typer) -> None:
    """Add the sub-commands to `app`."""
    app.command(cls=ServerFlags)(serve)
    for family in (canary, inventory, release, sync, stack, gateway):
        family.register(app)
